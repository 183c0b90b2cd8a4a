"""Read an archive of either kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bundle.archive.entries import ArchiveEntry
from bundle.archive.limits import Limits
from bundle.archive.read_tar import read_tgz
from bundle.archive.read_zip import read_zip
from bundle.errors import CheckFailed


def read_archive(path: Path, limits: Limits | None = None) -> Iterator[ArchiveEntry]:
    """Yield the entries of a ``.tgz`` or ``.zip``; its first bytes say which it is.

    Raises:
        CheckFailed: the file is neither, is cut or corrupt, or exceeds the limits.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] == b"\x1f\x8b":
        return read_tgz(path, limits)
    if head[:2] == b"PK":
        return read_zip(path, limits)
    raise CheckFailed(f"{path.name}: neither a gzip-compressed tar archive nor a zip archive")
