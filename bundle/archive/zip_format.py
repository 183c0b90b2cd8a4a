"""The records of a zip archive: local headers, central directory, end, each with zip64 where it is needed."""

from __future__ import annotations

import stat
import struct
import time
from dataclasses import dataclass
from functools import cache

from bundle.archive.members import Member

STORED, DEFLATED = 0, 8
_LIMIT32, _LIMIT16 = 0xFFFFFFFF, 0xFFFF
# Deflate may make data slightly larger: leave room below 4 GiB.
_ZIP64_FROM = 0xF0000000
_UTF8 = 0x800
_FIRST_DOS_SECOND, _LAST_DOS_SECOND = 315532800, 4354819198


@dataclass(frozen=True, slots=True)
class CentralHeader:
    """The header of one written member in the central directory."""

    member: Member
    method: int
    packed: int
    offset: int


@cache
def dos_time(epoch: int) -> tuple[int, int]:
    """Return date and time as zip stores them: UTC, even seconds, not before 1980 and not after 2107."""
    at = time.gmtime(min(max(epoch, _FIRST_DOS_SECOND), _LAST_DOS_SECOND))
    return (
        at.tm_year - 1980
    ) << 9 | at.tm_mon << 5 | at.tm_mday, at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2


def _name(member: Member) -> bytes:
    return member.path.encode() + (b"/" if member.kind == "dir" else b"")


def _flags(name: bytes) -> int:
    return 0 if name.isascii() else _UTF8


def local_header(member: Member, method: int, packed: int, epoch: int) -> bytes:
    """Return what stands before the packed data of a member."""
    name, big = _name(member), member.size >= _ZIP64_FROM
    date, clock = dos_time(epoch)
    extra = struct.pack("<HHQQ", 1, 16, member.size, packed) if big else b""
    sizes = (_LIMIT32, _LIMIT32) if big else (packed, member.size)
    fields = (0x04034B50, 45 if big else 20, _flags(name), method, clock, date, member.crc32, *sizes)
    return struct.pack("<LHHHHHLLLHH", *fields, len(name), len(extra)) + name + extra


def central_header(record: CentralHeader, epoch: int) -> bytes:
    """Return the entry of a member in the central directory."""
    member, name = record.member, _name(record.member)
    date, clock = dos_time(epoch)
    big = member.size >= _ZIP64_FROM
    wide = [member.size, record.packed] if big else []
    sizes = (_LIMIT32, _LIMIT32) if big else (record.packed, member.size)
    offset = record.offset
    if offset >= _LIMIT32:
        wide.append(offset)
        offset = _LIMIT32
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    needed = 45 if wide else 20
    kind = stat.S_IFDIR if member.kind == "dir" else stat.S_IFREG
    attributes = (kind | member.mode) << 16 | (0x10 if member.kind == "dir" else 0)
    fields = (
        0x02014B50,
        3 << 8 | needed,
        needed,
        _flags(name),
        record.method,
        clock,
        date,
        member.crc32,
        *sizes,
    )
    tail = (len(name), len(extra), 0, 0, 0, attributes, offset)
    return struct.pack("<LHHHHHHLLLHHHHHLL", *fields, *tail) + name + extra


def end_record(count: int, size: int, offset: int) -> bytes:
    """Return the end of the archive: number of entries, size and place of the central directory."""
    end = b""
    if count >= _LIMIT16 or size >= _LIMIT32 or offset >= _LIMIT32:
        fields = (0x06064B50, 44, 3 << 8 | 45, 45, 0, 0, count, count, size, offset)
        end = struct.pack("<LQHHLLQQQQ", *fields) + struct.pack("<LLQL", 0x07064B50, 0, offset + size, 1)
    count, size, offset = min(count, _LIMIT16), min(size, _LIMIT32), min(offset, _LIMIT32)
    return end + struct.pack("<LHHHHLLH", 0x06054B50, 0, 0, count, count, size, offset, 0)
