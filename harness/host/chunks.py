"""Chunks of a file: pieces of 4 MiB, each known by the digest of its content; a piece of zeros alone is not one.

A golden snapshot's RAM is mostly hole. What is read, compared and sent are the pieces that hold something, so a digest
over chunks costs what the content costs and not what the file's size says.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

SIZE = 4 << 20
# A hole is made of so many zeros: a block of most file systems.
_BLOCK = 4096
_ZEROS = bytes(SIZE)


@dataclass(frozen=True)
class Chunk:
    """One piece of a file: where it begins, and the SHA-256 of its content in hex."""

    offset: int
    digest: str


def contents(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield offset and content of each piece that holds anything but zeros, in order.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = 0
        while (start := _next_data(file.fileno(), start, size)) < size:
            start -= start % SIZE
            file.seek(start)
            piece = file.read(SIZE)
            if piece != _ZEROS[: len(piece)]:
                yield start, piece
            start += SIZE


def of_file(path: Path) -> list[Chunk]:
    """Return the chunks of a file, in order."""
    return [Chunk(offset, sha256(piece).hexdigest()) for offset, piece in contents(path)]


def digest(size: int, chunks: Iterable[Chunk]) -> str:
    """Return the digest of a file of ``size`` bytes by its chunks: equal for equal content, whatever holes it has."""
    total = sha256(f"{size}\n".encode())
    for chunk in chunks:
        total.update(f"{chunk.offset} {chunk.digest}\n".encode())
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """Return the digest of a file by its chunks, in hex."""
    return digest(path.stat().st_size, of_file(path))


def put(file: int, offset: int, piece: bytes) -> None:
    """Write a piece to an open file, leaving its blocks of zeros out: there is a hole where nothing was written."""
    start = 0
    while start < len(piece):
        end = start + _BLOCK
        if piece[start:end] == _ZEROS[: len(piece[start:end])]:
            start = end
            continue
        while end < len(piece) and piece[end : end + _BLOCK] != _ZEROS[: len(piece[end : end + _BLOCK])]:
            end += _BLOCK
        written = 0
        data = memoryview(piece)[start:end]
        while written < len(data):
            written += os.pwrite(file, data[written:], offset + start + written)
        start = end


def _next_data(file: int, start: int, size: int) -> int:
    """Return where the next byte lies that the file system has a block for, or the file's size."""
    if start >= size:
        return size
    try:
        return os.lseek(file, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise
