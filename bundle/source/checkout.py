"""A genuine CloudStack source tree as the items of the two archives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from bundle.archive.members import Item, with_parents
from bundle.catalogue import Catalogue, CheckoutRule, Release, full_version, number_of
from bundle.errors import UsageError
from bundle.matrix import minimum_template
from bundle.source.jars import check_jars, collect_jars
from bundle.source.payload import Payload
from bundle.source.walk import walk
from bundle.version import label_of

# Newest layout first.
_SCRIPT_FOLDERS = ("systemvm/debian", "systemvm/patches/debian/config")
_KEYSTORE_INTO = "opt/cloud/bin/"
_LARGEST_POM = 4 << 20
_PARENT = re.compile(r"<parent>.*?</parent>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_VERSION = re.compile(r"<version>\s*([0-9][0-9A-Za-z.+-]*)\s*</version>")


def tree_version(root: Path) -> str:
    """Return the version that the tree's own ``pom.xml`` says, for instance ``4.22.0.0-SNAPSHOT``.

    Raises:
        UsageError: there is none.
    """
    pom = root / "pom.xml"
    try:
        text = pom.read_bytes()[:_LARGEST_POM].decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(
            f"{pom}: {error.strerror}: the release cannot be read", hint="name it with --release"
        ) from error
    # The version of the parent comes first and is Apache's, not CloudStack's.
    match = _VERSION.search(_PARENT.sub("", _COMMENT.sub("", text), count=1))
    if match is None:
        raise UsageError(f"{pom}: no version", hint="name the release with --release")
    return match[1]


def _first_folder(root: Path, folders: tuple[str, ...]) -> Path | None:
    return next((root / name for name in folders if (root / name).is_dir()), None)


def _keystore_scripts(root: Path) -> Iterator[Item]:
    folder = root / "scripts" / "util"
    found = list(walk(folder, boundary=root)) if folder.is_dir() else []
    for item in found:
        name = item.path.rpartition("/")[2]
        if item.source is not None and name.startswith("keystore-"):
            yield Item(_KEYSTORE_INTO + name, item.source)


def check_tree(root: Path) -> Path:
    """Return the folder of the guest scripts.

    Raises:
        UsageError: the tree has none, and so is not CloudStack's.
    """
    folder = _first_folder(root, _SCRIPT_FOLDERS)
    if folder is None:
        raise UsageError(
            f"{root}: not a CloudStack source tree: it has no {_SCRIPT_FOLDERS[0]}",
            hint="name the root of a checkout, or of a copy of the reference payload",
        )
    return folder


def _versions(root: Path, said: str) -> tuple[str, ...]:
    """Return how jars of this tree may call their version: as the tree does, or as the release that was named."""
    try:
        return tuple(dict.fromkeys((tree_version(root), said)))
    except UsageError:
        return (said,)


def _scripts(root: Path, release: Release) -> dict[str, Item]:
    folder = check_tree(root)
    items = {item.path: item for item in walk(folder, boundary=root) if item.source is not None}
    keystore = {item.path: item for item in _keystore_scripts(root)}
    if not keystore:
        raise UsageError(
            f"{root}: scripts/util has no keystore-*: an agent of {release.name} would wait for them"
        )
    return items | keystore


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(pattern == "**" or ("/" not in path and fnmatchcase(path, pattern)) for pattern in patterns)


def _agent_part(root: Path, rule: CheckoutRule) -> Iterator[Item]:
    folder = _first_folder(root, rule.folders)
    if folder is None:
        return
    for item in walk(folder, boundary=root):
        if item.source is not None and _matches(item.path, rule.files):
            yield Item(f"{rule.into}/{item.path}".lstrip("/"), item.source)


def _agent(root: Path, release: Release, catalogue: Catalogue) -> dict[str, Item]:
    items: dict[str, Item] = {}
    for rule in catalogue.checkout_agent:
        if release.number < rule.since:
            continue
        for item in _agent_part(root, rule):
            if item.path in items:
                raise UsageError(
                    f"{item.source}: {items[item.path].source} goes to the same place in agent.zip"
                )
            items[item.path] = item
    return items


@dataclass(frozen=True)
class Jars:
    """Jars of the VM agent: their folder or archive, and a folder for those that have to be unpacked."""

    folder: Path
    scratch: Path


def _row(said: str, catalogue: Catalogue, newest: bool) -> tuple[Release, Literal["own", "newest"]]:
    """Return the row of a release, and whether it is its own; ``newest`` lets the newest one stand in."""
    try:
        return catalogue.release(said), "own"
    except UsageError as error:
        last = catalogue.newest
        if number_of(said) <= last.number:
            raise
        if newest:
            return last, "newest"
        raise UsageError(
            str(error),
            hint=f"--next builds it by the rules of {last.name}; --release {last.name} calls it {last.name}",
        ) from None


def checkout_payload(
    root: Path, release: str | None, jars: Jars | None, catalogue: Catalogue, *, newest: bool = False
) -> Payload:
    """Return what CloudStack's own build packs from a source tree.

    Args:
        root: the source tree.
        release: overrides the version that the tree says.
        jars: where the jars of the VM agent are; None leaves them out and says so.
        catalogue: the release catalogue.
        newest: whether the newest row of the catalogue stands in for a release that is newer than all of them.

    Raises:
        UsageError: the folder is no such tree, or something in it cannot be shipped.
    """
    check_tree(root)
    said = release or tree_version(root)
    row, whose = _row(said, catalogue, newest)
    scripts = _scripts(root, row)
    agent = _agent(root, row, catalogue)
    notes = []
    if whose == "newest":
        notes.append(f"{said} is newer than the catalogue: built by the rules of {row.name}")
    if jars is None:
        notes.append(
            "agent.zip has no jars: the agent of SSVM and CPVM cannot start (--agent-jars adds them)"
        )
    else:
        found = collect_jars(jars.folder, jars.scratch)
        check_jars(found, _versions(root, said))
        agent |= {name: Item(name, path) for name, path in found.jars.items()}
        notes.append(f"{len(found.jars)} jars from {found.place}")
    return Payload(
        release=row,
        version=full_version(said),
        label=label_of(said),
        row=whose,
        minimum_template=minimum_template(full_version(said) if whose == "own" else row.name, catalogue),
        origin="checkout",
        scripts=with_parents(scripts),
        agent=with_parents(agent),
        notes=tuple(notes),
    )
