"""The reference payload ``systemvm/`` as the items of the two archives, for any release of the catalogue."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bundle.archive.members import Item, with_parents
from bundle.catalogue import Catalogue, Release, full_version
from bundle.errors import UsageError
from bundle.source.walk import walk
from bundle.version import label_of

if TYPE_CHECKING:
    from bundle.source.version_control import Checkout


@dataclass(frozen=True)
class Payload:
    """The files that a source ships for one release.

    Attributes:
        release: the row of the catalogue.
        version: full version, for instance ``4.22.0.0``.
        label: what the version has beside its numbers, for instance ``SNAPSHOT``.
        checkout: what git knows about the source; None when it is in no checkout.
        row: ``own`` when ``release`` is the version's own row, ``newest`` when it stands in for one.
        minimum_template: the oldest template that the payload runs on.
        origin: ``reference`` or ``checkout``.
        scripts: items of cloud-scripts.tgz, relative to ``/``.
        agent: items of agent.zip, relative to ``/usr/local/cloud/systemvm``.
        notes: what a person should know about this source.
    """

    release: Release
    version: str
    minimum_template: str
    origin: Literal["reference", "checkout"]
    scripts: dict[str, Item]
    agent: dict[str, Item]
    notes: tuple[str, ...] = ()
    label: str = ""
    row: Literal["own", "newest"] = "own"
    checkout: Checkout | None = None


@dataclass(frozen=True)
class Overlay:
    """A release's differences from the next newer one: files beside the tree, absent files, other modes."""

    folder: Path
    absent: frozenset[str]
    modes: dict[str, int]


def _overlay_table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error


def read_overlay(folder: Path) -> Overlay:
    """Read one folder ``systemvm/older/<release>``.

    Raises:
        UsageError: ``overlay.toml`` is not what is expected.
    """
    path = folder / "overlay.toml"
    table = _overlay_table(path)
    if unknown := sorted(table.keys() - {"absent", "modes"}):
        raise UsageError(f"{path}: unknown key {unknown[0]!r} (expected absent or modes)")
    try:
        modes = {str(name): int(mode, 8) for name, mode in table.get("modes", {}).items()}
    except (TypeError, ValueError):
        raise UsageError(f"{path}: every value of [modes] is a string of octal digits") from None
    return Overlay(folder, frozenset(table.get("absent", ())), modes)


def find_overlays(root: Path, release: Release, catalogue: Catalogue) -> list[Overlay]:
    """Return the overlays that lead from the newest payload back to a release, the newest first."""
    rows = sorted(catalogue.releases.values(), key=lambda row: row.number, reverse=True)
    folders = [root / "older" / row.name for row in rows if row.number >= release.number]
    return [read_overlay(folder) for folder in folders if folder.is_dir()]


def _files(root: Path) -> dict[str, Item]:
    """Return the files below a folder; empty folders are left out, as version control does."""
    return {item.path: item for item in walk(root) if item.source is not None}


def _apply(items: dict[str, Item], overlay: Overlay) -> dict[str, Item]:
    """Return the items with the overlay's absent files, replaced files and modes."""
    where = overlay.folder / "overlay.toml"
    for path in overlay.absent:
        if path not in items:
            raise UsageError(f"{where}: absent file {path!r} is not in the next newer payload")
    kept = {path: item for path, item in items.items() if path not in overlay.absent}
    if (added := overlay.folder / "debian").is_dir():
        kept |= _files(added)
    for path, mode in overlay.modes.items():
        if path not in kept:
            raise UsageError(f"{where}: [modes] names {path!r}, which the payload does not have")
        kept[path] = Item(path, kept[path].source, mode)
    return kept


def _keystore_programs(agent: dict[str, Item]) -> dict[str, Item]:
    """Return the VM agent's ``keystore-*`` as CloudStack puts them beside the scripts, where management looks."""
    found = {}
    for item in agent.values():
        if item.path.startswith("scripts/util/keystore-"):
            path = f"opt/cloud/bin/{item.path.rpartition('/')[2]}"
            found[path] = Item(path, item.source)
    return found


def is_reference(root: Path) -> bool:
    """Say whether a folder is a ``systemvm/`` of ours: it brings its own release catalogue."""
    return (root / "releases.toml").is_file() and (root / "debian").is_dir()


def reference_payload(root: Path, name: str, catalogue: Catalogue) -> Payload:
    """Return the reference payload below ``root`` as it was in the release of this name.

    Raises:
        UsageError: the payload cannot be read, or has a file that cannot be shipped.
    """
    release = catalogue.release(name)
    items = _files(root / "debian")
    for overlay in find_overlays(root, release, catalogue):
        items = _apply(items, overlay)
    agent = _files(root / "agent") if (root / "agent").is_dir() else {}
    return Payload(
        release=release,
        version=full_version(name),
        label=label_of(name),
        minimum_template=catalogue.reference_minimum_template,
        origin="reference",
        scripts=with_parents(items | _keystore_programs(agent)),
        agent=with_parents(agent),
    )
