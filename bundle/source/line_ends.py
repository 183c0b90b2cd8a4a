"""Refuse a source whose scripts have CR LF line ends, or mend them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bundle.archive.members import Item
from bundle.archive.output import write
from bundle.archive.text import breaks_in_guest, with_lf
from bundle.errors import UsageError
from bundle.source.payload import Payload

_LARGEST_TEXT = 16 << 20
_BLOCK = 4096


def _text(path: Path) -> bytes:
    """Return the content of a file, cut where no script reaches."""
    try:
        with path.open("rb") as file:
            head = file.read(_BLOCK)
            return head if b"\0" in head else head + file.read(_LARGEST_TEXT)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def check_line_ends(payload: Payload) -> None:
    """Refuse a payload with scripts that would be a "bad interpreter" in a system VM.

    Raises:
        UsageError: there is one; the line names the first, counts them, and says what to do.
    """
    items = (*payload.scripts.values(), *payload.agent.values())
    found = [row for row in items if row.source is not None and breaks_in_guest(row.path, _text(row.source))]
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise UsageError(
            f"{found[0].source}: CR LF line ends{more}: no system VM could run these scripts",
            hint="check out again with 'git config core.autocrlf false', or build with --mend-line-ends",
        )


def _mended(item: Item, scratch: Path, number: int) -> Item:
    """Return the item, with a copy of its file that has LF line ends when it has others."""
    if item.source is None or item.source.stat().st_size > _LARGEST_TEXT:
        return item
    data = with_lf(item.source.read_bytes())
    if data is None:
        return item
    place = scratch / str(number)
    write(place, data)
    return replace(item, source=place)


def mend_line_ends(payload: Payload, scratch: Path) -> Payload:
    """Return the payload with LF line ends in every text file.

    Args:
        payload: what a source ships; its files are left as they are.
        scratch: a folder that is made for the mended copies; it must outlive the build.

    Raises:
        UsageError: a file cannot be read.
    """
    scratch.mkdir()
    try:
        scripts = {
            path: _mended(item, scratch, number)
            for number, (path, item) in enumerate(payload.scripts.items())
        }
        agent = {
            path: _mended(item, scratch, len(scripts) + number)
            for number, (path, item) in enumerate(payload.agent.items())
        }
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    both = [(payload.scripts, scripts), (payload.agent, agent)]
    count = sum(old[path] is not new[path] for old, new in both for path in old)
    note = f"{count} files had CR LF line ends and are packed with LF"
    return replace(payload, scripts=scripts, agent=agent, notes=(*payload.notes, *([note] if count else [])))
