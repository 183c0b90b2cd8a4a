"""The three files of a live patch without a manifest: as CloudStack's build or a package leaves them."""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from bundle import layout
from bundle.archive.entries import ArchiveEntry
from bundle.archive.jar import BROKEN, by_name
from bundle.archive.members import Archive, Member
from bundle.archive.reader import read_archive
from bundle.archive.text import breaks_in_guest
from bundle.catalogue import Catalogue
from bundle.errors import CheckFailed
from bundle.inspect.impact import PatchScript

_LARGEST_SCRIPT = 16 << 20
_POLICY = re.compile(rb"\bRESTART_POLICY=([a-z]+)\b")
# Names that say that a folder is, or was, a bundle: without one of its files it is a broken one and no bare trio.
_OF_A_BUNDLE = frozenset({*layout.REQUIRED, *layout.OPTIONAL}) - {*layout.PAYLOAD}


def is_trio(folder: Path) -> bool:
    """Say whether a folder holds both archives of a live patch."""
    return (folder / layout.AGENT).is_file() and (folder / layout.SCRIPTS).is_file()


def is_bare(folder: Path) -> bool:
    """Say whether a folder holds all three files and nothing else of a bundle."""
    whole = all((folder / name).is_file() for name in layout.PAYLOAD)
    return whole and not any((folder / name).exists() for name in _OF_A_BUNDLE)


def is_installed(folder: Path) -> bool:
    """Say whether a folder holds the three files with the manifest that ``stage`` leaves beside them."""
    rest = _OF_A_BUNDLE - {layout.MANIFEST, layout.MANIFEST_SIGNATURE}
    manifest = (folder / layout.MANIFEST).is_file()
    return manifest and is_trio(folder) and not any((folder / name).exists() for name in rest)


def find_trio(place: Path) -> Path | None:
    """Return the folder with the archives: the place itself, or where packages and builds put them below it."""
    return next((path for path in (place, place / "vms", place / "dist") if is_trio(path)), None)


def read_script(path: Path) -> bytes:
    """Return the text of a patch script.

    Raises:
        CheckFailed: it is none.
    """
    with path.open("rb") as file:
        data = file.read(_LARGEST_SCRIPT + 1)
    if not data.startswith(b"#!") or len(data) > _LARGEST_SCRIPT:
        raise CheckFailed(f"{path}: not a script (it does not begin with '#!', or is larger than 16 MiB)")
    return data


def know_script(data: bytes, catalogue: Catalogue) -> PatchScript:
    """Return whose script it is: ours by what it says of itself, CloudStack's by its digest, else a foreign one."""
    digest = hashlib.sha256(data).hexdigest()
    if releases := catalogue.upstream_scripts.get(digest):
        return PatchScript("upstream", digest, "always", releases)
    policy = _POLICY.search(data)
    if policy and b"/run/cloud-livepatch.lock" in data:
        return PatchScript("ours", digest, policy[1].decode())
    return PatchScript("foreign", digest, "always")


def version_of(agent: Path) -> str:
    """Return the version that the VM agent's own jar names, for instance ``4.22.0.0-SNAPSHOT``; empty without one.

    Raises:
        CheckFailed: the archive cannot be read.
    """
    try:
        with zipfile.ZipFile(agent) as archive:
            names = [name for name in archive.NameToInfo if re.fullmatch(r"cloud-agent-\d[^/]*\.jar", name)]
    except BROKEN as error:
        raise CheckFailed(f"{agent.name}: not a sound zip archive ({error})") from error
    found = by_name(names[0].removesuffix(".jar")) if len(names) == 1 else None
    return found.version if found else ""


def effective(entries: list[ArchiveEntry]) -> dict[str, ArchiveEntry]:
    """Return entries by path as they lie on the disk after unpacking: of several with one name, the last."""
    return {entry.path.removeprefix("./"): entry for entry in entries if entry.path not in {"", "."}}


def members_of(path: Path, name: Archive) -> tuple[Member, ...]:
    """Return the members of an archive that others made, sorted by path.

    Raises:
        CheckFailed: it has something that a manifest cannot describe, or that no system VM should get.
    """
    found = []
    for place, entry in sorted(effective(list(read_archive(path))).items()):
        if entry.kind not in {"file", "dir"}:
            raise CheckFailed(
                f"{name}: member {place!r} is a {entry.kind}; a bundle has files and folders only"
            )
        if entry.owner != (0, 0):
            raise CheckFailed(f"{name}: member {place!r} does not belong to root")
        if entry.kind == "file" and breaks_in_guest(place, entry.head):
            raise CheckFailed(f"{name}: member {place!r} has CR LF line ends: no system VM can run it")
        kind = "dir" if entry.kind == "dir" else "file"
        found.append(Member(place, "dir" if kind == "dir" else "file", entry.mode, entry.size, entry.sha256))
    return tuple(found)


@dataclass(frozen=True)
class Trio:
    """A trio that was read from end to end.

    Attributes:
        folder: where it lies.
        version: what its own jars say; empty when it has none.
        script: whose patch script it is.
        members: what the archives hold.
    """

    folder: Path
    version: str
    script: PatchScript
    members: dict[Archive, tuple[Member, ...]]


def read_trio(folder: Path, catalogue: Catalogue) -> Trio:
    """Read the three files.

    Raises:
        CheckFailed: one of them is broken.
        OSError: one of them cannot be read.
    """
    script = know_script(read_script(folder / layout.SCRIPT), catalogue)
    members: dict[Archive, tuple[Member, ...]] = {
        "agent.zip": members_of(folder / layout.AGENT, "agent.zip"),
        "cloud-scripts.tgz": members_of(folder / layout.SCRIPTS, "cloud-scripts.tgz"),
    }
    return Trio(folder, version_of(folder / layout.AGENT), script, members)
