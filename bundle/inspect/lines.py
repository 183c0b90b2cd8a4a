"""The changed lines of text members: a unified comparison, cut at a limit."""

from __future__ import annotations

import difflib
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass

from bundle.archive.jar import BROKEN
from bundle.errors import CheckFailed
from bundle.inspect.contents import BundleContents, Place

_LARGEST_TEXT = 512 << 10
_UNSAFE = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


@dataclass(frozen=True)
class FileLines:
    """The changed lines of one member; ``left_out`` counts those beyond the limit."""

    place: Place
    lines: tuple[str, ...]
    left_out: int


def _of_zip(snapshot: BundleContents, wanted: set[str]) -> dict[Place, bytes]:
    with zipfile.ZipFile(snapshot.files["agent.zip"]) as archive:
        rows = {name: archive.NameToInfo[name] for name in wanted if name in archive.NameToInfo}
        return {
            ("agent.zip", name): archive.read(row)
            for name, row in rows.items()
            if row.file_size <= _LARGEST_TEXT
        }


def _of_tar(snapshot: BundleContents, wanted: set[str]) -> dict[Place, bytes]:
    found: dict[Place, bytes] = {}
    with tarfile.open(snapshot.files["cloud-scripts.tgz"]) as archive:
        for row in archive:
            name = row.name.removeprefix("./")
            if (
                name in wanted
                and row.isreg()
                and row.size <= _LARGEST_TEXT
                and (file := archive.extractfile(row))
            ):
                found["cloud-scripts.tgz", name] = file.read()
    return found


def _contents(snapshot: BundleContents, places: set[Place]) -> dict[Place, bytes]:
    """Return the content of members that are small enough to be text that a person reads."""
    if snapshot.sources:
        files = {place: snapshot.sources[place] for place in places if place in snapshot.sources}
        return {
            place: path.read_bytes() for place, path in files.items() if path.stat().st_size <= _LARGEST_TEXT
        }
    found: dict[Place, bytes] = {}
    for archive, reader in (("agent.zip", _of_zip), ("cloud-scripts.tgz", _of_tar)):
        wanted = {path for name, path in places if name == archive}
        if wanted and archive in snapshot.archives:
            try:
                found |= reader(snapshot, wanted)
            except (*BROKEN, tarfile.TarError) as error:
                raise CheckFailed(f"{snapshot.name}: {archive} cannot be read ({error})") from error
    return found


def _text(data: bytes | None) -> list[str] | None:
    """Return the lines of a text; None for what is none."""
    if data is None:
        return []
    if b"\0" in data:
        return None
    try:
        return [line.translate(_UNSAFE) for line in data.decode().split("\n")]
    except UnicodeDecodeError:
        return None


def changed_lines(
    old: BundleContents, new: BundleContents, places: Iterable[Place], limit: int
) -> tuple[FileLines, ...]:
    """Return the changed lines of every text among the members.

    Args:
        old: what there was.
        new: what there is now.
        places: archive and path of files whose content differs, or that only one of them has.
        limit: the most lines of one member.

    Raises:
        CheckFailed: an archive cannot be read.
    """
    wanted = set(places)
    before, after = _contents(old, wanted), _contents(new, wanted)
    found = []
    for place in sorted(wanted):
        if place not in before and place not in after:
            continue
        one, two = _text(before.get(place)), _text(after.get(place))
        if one is None or two is None or (place in old.rows) > (place in before):
            continue
        lines = list(difflib.unified_diff(one, two, "old", "new", n=2, lineterm=""))[2:]
        if lines:
            found.append(FileLines(place, tuple(lines[:limit]), max(0, len(lines) - limit)))
    return tuple(found)
