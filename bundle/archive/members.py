"""Contents of an archive to be written: items as they lie in a source, members as they are written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Archive = Literal["cloud-scripts.tgz", "agent.zip"]
MemberKind = Literal["file", "dir"]


@dataclass(frozen=True, slots=True)
class Item:
    """One file or folder of a source and the place it gets in an archive.

    Attributes:
        path: place in the archive, relative, with ``/``.
        source: the file that holds the content; None for a folder.
        mode: permission bits that are fixed beforehand; None leaves them to the mode rules.
    """

    path: str
    source: Path | None
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive with everything that its bytes depend on.

    Attributes:
        path: place in the archive, relative, with ``/``, no trailing slash.
        kind: ``file`` or ``dir``.
        mode: permission bits.
        size: content in bytes; 0 for a folder.
        sha256: digest of the content in lower-case hex; empty for a folder.
        crc32: checksum of the content as zip wants it.
        source: the file that holds the content; None for a folder.
    """

    path: str
    kind: MemberKind
    mode: int
    size: int = 0
    sha256: str = ""
    crc32: int = 0
    source: Path | None = None


def with_parents(items: dict[str, Item]) -> dict[str, Item]:
    """Return the items with an item for every folder above them, sorted by path."""
    complete = dict(items)
    for path in items:
        parent = path.rpartition("/")[0]
        while parent and parent not in complete:
            complete[parent] = Item(parent, None)
            parent = parent.rpartition("/")[0]
    return dict(sorted(complete.items()))
