"""Entries of an archive as a reader finds them, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EntryKind = Literal["file", "dir", "symlink", "hardlink", "device", "other"]


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One entry of an archive as it is found there.

    Attributes:
        path: the name with a trailing slash removed; bytes that are not UTF-8 show as surrogates.
        kind: what it is.
        mode: permission bits with set-uid, set-gid and sticky.
        size: content in bytes.
        sha256: digest of the content in lower-case hex; empty unless it is a file.
        owner: numeric user and group, as far as the format carries them.
        target: where a link leads.
        mtime: time stamp in seconds since 1970.
        head: the first bytes of the content.
    """

    path: str
    kind: EntryKind
    mode: int
    size: int = 0
    sha256: str = ""
    owner: tuple[int, int] = (0, 0)
    target: str = ""
    mtime: int = 0
    head: bytes = b""
