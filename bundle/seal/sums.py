"""``SHA512SUMS``: one line a file, as ``sha512sum -c`` reads it."""

from __future__ import annotations

import re
from pathlib import Path

from bundle.archive.digest import file_digest
from bundle.errors import CheckFailed
from bundle.layout import SUMS

_LINE = re.compile(r"([0-9a-f]{128})  ([A-Za-z0-9._-]+)")


def render(folder: Path, known: dict[str, str]) -> str:
    """Return the text for every file in a bundle folder.

    Args:
        folder: the bundle.
        known: SHA-512 digests that were computed already, by name.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name != SUMS)
    return "".join(f"{known.get(name) or file_digest(folder / name, 'sha512')}  {name}\n" for name in names)


def render_one(path: Path) -> str:
    """Return the text of a ``.sha512`` file as the ASF publishes it beside an artefact."""
    return f"{file_digest(path, 'sha512')}  {path.name}\n"


def parse(data: bytes, where: str) -> dict[str, str]:
    """Return the digests by name.

    Raises:
        CheckFailed: a line is not what ``sha512sum`` writes, or the names are not sorted and unique.
    """
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise CheckFailed(f"{where}: not ASCII text") from None
    if not text.endswith("\n"):
        raise CheckFailed(f"{where}: the last line is cut")
    found: dict[str, str] = {}
    for number, line in enumerate(text[:-1].split("\n"), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise CheckFailed(f"{where}, line {number}: not a digest, two blanks and a name")
        if found and match[2] <= max(found):
            raise CheckFailed(f"{where}, line {number}: {match[2]} is out of order or listed twice")
        found[match[2]] = match[1]
    return found
