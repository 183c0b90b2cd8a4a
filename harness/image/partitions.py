"""Partition tables of foreign disks: MBR with logical partitions, and GPT."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_SECTOR = 512
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
# No disk has more; a loop of logical partitions ends here.
_MOST = 128
# Bytes of an entry of a GPT: 128 by the specification of UEFI, or a power of two times as many; and the part we read.
_ENTRY_MOST, _ENTRY_READ = 4096, 48


class Partition(NamedTuple):
    """A partition as Linux numbers it, in bytes."""

    number: int
    offset: int
    size: int


def read(disk: Path) -> list[Partition]:
    """Return the partitions of a raw disk, also those that lie beyond its end; none when it has no table."""
    with disk.open("rb") as file:
        first = _sector(file, 0)
        if first[510:512] != b"\x55\xaa":
            return []
        if any(kind == _PROTECTIVE for kind, _, _ in _entries(first)):
            return list(_gpt(file))
        return list(itertools.islice(_mbr(file, first), _MOST))


def _mbr(file: BinaryIO, first: bytes) -> Iterator[Partition]:
    for number, (kind, start, count) in enumerate(_entries(first), start=1):
        if kind in _EXTENDED:
            yield from _logical(file, start)
        elif kind:
            yield Partition(number, start * _SECTOR, count * _SECTOR)


def _logical(file: BinaryIO, extended: int) -> Iterator[Partition]:
    table = extended
    for number in range(5, _MOST):
        (kind, start, count), (next_kind, next_start, _) = list(_entries(_sector(file, table)))[:2]
        if kind:
            yield Partition(number, (table + start) * _SECTOR, count * _SECTOR)
        if next_kind not in _EXTENDED:
            return
        table = extended + next_start


def _entries(sector: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield type, first sector and number of sectors of the four entries."""
    for position in range(446, 510, 16):
        kind = sector[position + 4]
        start, count = struct.unpack_from("<II", sector, position + 8)
        yield kind, start, count


def _gpt(file: BinaryIO) -> Iterator[Partition]:
    header = _sector(file, 1)
    if header[:8] != b"EFI PART":
        return
    table, number, length = struct.unpack_from("<QII", header, 72)
    if not _ENTRY_READ <= length <= _ENTRY_MOST:
        return
    for index in range(min(number, _MOST)):
        entry = _at(file, table * _SECTOR + index * length, _ENTRY_READ)
        if len(entry) == _ENTRY_READ and any(entry[:16]):
            start, last = struct.unpack_from("<QQ", entry, 32)
            yield Partition(index + 1, start * _SECTOR, (last - start + 1) * _SECTOR)


def _sector(file: BinaryIO, number: int) -> bytes:
    return _at(file, number * _SECTOR, _SECTOR).ljust(_SECTOR, b"\0")


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    """Return what is there; nothing beyond the end, where a position may be more than the host's kernel takes."""
    if offset >= file.seek(0, os.SEEK_END):
        return b""
    file.seek(offset)
    return file.read(length)
