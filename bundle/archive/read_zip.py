"""Read a zip archive by its central directory, and hold every local header against it."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from bundle.archive.entries import ArchiveEntry, EntryKind
from bundle.archive.limits import Limits, Meter
from bundle.archive.text import HEAD
from bundle.errors import CheckFailed

_PIECE = 1 << 18
_END = struct.Struct("<LHHHHLLH")
_END64 = struct.Struct("<LQHHLLQQQQ")
_LOCATOR64 = struct.Struct("<LLQL")
_CENTRAL = struct.Struct("<LHHHHHHLLLHHHHHLL")
_LOCAL = struct.Struct("<LHHHHHLLLHH")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _DESCRIPTOR, _UTF8 = 0x1, 0x8, 0x800
_UNIX = 3


@dataclass(frozen=True, slots=True)
class _Row:
    """One entry of the central directory."""

    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    system: int
    attributes: int
    date: int
    clock: int


class _Zip:
    def __init__(self, file: BinaryIO, limits: Limits, where: str) -> None:
        self._file = file
        self._length = os.fstat(file.fileno()).st_size
        self._where = where
        self._limits = limits
        self._meter = Meter(limits, where)

    def fail(self, message: str) -> CheckFailed:
        return CheckFailed(f"{self._where}: {message}")

    def _at(self, offset: int, size: int, what: str) -> bytes:
        if offset < 0 or size < 0 or offset + size > self._length:
            raise self.fail(f"{what} lies outside of the file")
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) < size:
            raise self.fail(f"{what} is cut")
        return data

    def _end(self) -> tuple[int, int, int]:
        """Return count, size and offset of the central directory."""
        tail_size = min(self._length, _END.size + 0xFFFF)
        tail = self._at(self._length - tail_size, tail_size, "the end record")
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) - at < _END.size:
            raise self.fail("not a zip file (it has no end record)")
        _, disk, first, here, count, size, offset, comment = _END.unpack_from(tail, at)
        if len(tail) != at + _END.size + comment:
            raise self.fail("bytes after the end record")
        if (disk, first) != (0, 0) or here != count:
            raise self.fail("a zip file of several disks")
        if count != 0xFFFF and size != 0xFFFFFFFF and offset != 0xFFFFFFFF:
            return count, size, offset
        position = self._length - tail_size + at - _LOCATOR64.size
        if position < 0:
            return count, size, offset
        mark, _, end, _ = _LOCATOR64.unpack(self._at(position, _LOCATOR64.size, "the zip64 locator"))
        if mark != 0x07064B50:
            return count, size, offset
        wide = _END64.unpack(self._at(end, _END64.size, "the zip64 end record"))
        if wide[0] != 0x06064B50:
            raise self.fail("the zip64 end record is corrupt")
        return wide[7], wide[8], wide[9]

    def rows(self) -> Iterator[_Row]:
        count, size, offset = self._end()
        if size > self._length or count * _CENTRAL.size > size:
            raise self.fail("the central directory is cut")
        position, end = offset, offset + size
        for _ in range(count):
            self._meter.entry()
            fields = _CENTRAL.unpack(self._at(position, _CENTRAL.size, "the central directory"))
            if fields[0] != 0x02014B50:
                raise self.fail("the central directory is corrupt")
            made, _, flags, method, clock, date, crc, packed, full, n_name, n_extra, n_comment = fields[1:13]
            rest = self._at(position + _CENTRAL.size, n_name + n_extra + n_comment, "the central directory")
            name, extra = rest[:n_name], rest[n_name : n_name + n_extra]
            full, packed, at = self._wide(name, extra, full, packed, fields[16])
            yield _Row(name, flags, method, crc, packed, full, at, made >> 8, fields[15], date, clock)
            position += _CENTRAL.size + len(rest)
        if position != end:
            raise self.fail("the central directory has another size than the end record says")

    def _wide(self, name: bytes, extra: bytes, full: int, packed: int, offset: int) -> tuple[int, int, int]:
        """Return sizes and offset with the values of a zip64 extra field filled in."""
        values = [full, packed, offset]
        missing = [index for index, value in enumerate(values) if value == 0xFFFFFFFF]
        while missing and len(extra) >= 4:
            kind, length = struct.unpack_from("<HH", extra)
            field, extra = extra[4 : 4 + length], extra[4 + length :]
            if kind != 1:
                continue
            if len(field) < 8 * len(missing):
                raise self.fail(f"the zip64 field of entry {_text(name)!r} is cut")
            for place, index in enumerate(missing):
                values[index] = int.from_bytes(field[8 * place : 8 * place + 8], "little")
            break
        return values[0], values[1], values[2]

    def data_start(self, row: _Row) -> int:
        """Return where the packed data begins, after the local header was held against the directory."""
        what = f"the local header of entry {_text(row.name)!r}"
        fields = _LOCAL.unpack(self._at(row.offset, _LOCAL.size, what))
        mark, _, flags, method, _, _, crc, packed, full, n_name, n_extra = fields
        name = self._at(row.offset + _LOCAL.size, n_name + n_extra, what)[:n_name]
        same = mark == 0x04034B50 and (flags, method, name) == (row.flags, row.method, row.name)
        if not flags & _DESCRIPTOR:
            same &= crc == row.crc
            same &= full in (row.size, 0xFFFFFFFF) and packed in (row.packed, 0xFFFFFFFF)
        if not same:
            raise self.fail(f"{what} differs from the central directory")
        start: int = row.offset + _LOCAL.size + n_name + n_extra
        if start + row.packed > self._length:
            raise self.fail(f"the data of entry {_text(row.name)!r} lies outside of the file")
        return start

    def content(self, row: _Row) -> Iterator[bytes]:
        """Yield the unpacked content and prove its size and checksum."""
        name = _text(row.name)
        if row.flags & _ENCRYPTED:
            raise self.fail(f"entry {name!r} is encrypted")
        if row.method not in (_STORED, _DEFLATED):
            raise self.fail(f"entry {name!r} is packed with unknown method {row.method}")
        packer = zlib.decompressobj(-15) if row.method == _DEFLATED else None
        pieces = self._packed(row)
        crc = size = 0
        for block in pieces if packer is None else self._unpacked(packer, pieces, name):
            size += len(block)
            crc = zlib.crc32(block, crc)
            self._meter.content(len(block))
            if size > row.size:
                break
            yield block
        if (size, crc) != (row.size, row.crc) or (packer is not None and not packer.eof):
            raise self.fail(f"the content of entry {name!r} does not match its size and checksum")

    def _packed(self, row: _Row) -> Iterator[bytes]:
        position, left = self.data_start(row), row.packed
        while left:
            piece = self._at(position, min(left, _PIECE), f"entry {_text(row.name)!r}")
            yield piece
            position += len(piece)
            left -= len(piece)

    def _unpacked(self, packer: zlib._Decompress, pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
        """Yield blocks of bounded size, however much a piece unpacks to."""
        try:
            for piece in pieces:
                yield packer.decompress(piece, _PIECE)
                while packer.unconsumed_tail:
                    yield packer.decompress(packer.unconsumed_tail, _PIECE)
                if packer.unused_data:
                    raise self.fail(f"entry {name!r} has bytes after its data")
            while not packer.eof and (block := packer.decompress(b"", _PIECE)):
                yield block
        except zlib.error as error:
            raise self.fail(f"the data of entry {name!r} is corrupt ({error})") from error


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _kind(row: _Row) -> EntryKind:
    kind = stat.S_IFMT(row.attributes >> 16) if row.system == _UNIX else 0
    kinds: dict[int, EntryKind] = {stat.S_IFLNK: "symlink", stat.S_IFDIR: "dir", stat.S_IFREG: "file"}
    if kind in kinds:
        return kinds[kind]
    if kind:
        return "device"
    return "dir" if row.name.endswith(b"/") else "file"


def _seconds(row: _Row) -> int:
    try:
        return int(
            datetime(
                (row.date >> 9) + 1980,
                row.date >> 5 & 15,
                row.date & 31,
                row.clock >> 11,
                row.clock >> 5 & 63,
                row.clock % 32 * 2,
                tzinfo=UTC,
            ).timestamp()
        )
    except ValueError:
        return 0


def _check_overlap(rows: list[tuple[int, int]], where: str) -> None:
    """Refuse entries that share data: how small archives unpack to petabytes."""
    rows.sort()
    for (_, end), (start, _) in pairwise(rows):
        if start < end:
            raise CheckFailed(f"{where}: two entries share the same data")


def read_zip(path: Path, limits: Limits | None = None) -> Iterator[ArchiveEntry]:
    """Yield the entries of a ``.zip`` in the order of its directory, with the digests of their content.

    Raises:
        CheckFailed: the file is not such an archive, is cut or corrupt, or exceeds the limits.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        archive = _Zip(file, limits or Limits(), path.name)
        spans: list[tuple[int, int]] = []
        for row in archive.rows():
            digest, head, link = hashlib.sha256(), b"", b""
            kind = _kind(row)
            for block in archive.content(row):
                head = head or block[:HEAD]
                link = block[:4096] if kind == "symlink" and not link else link
                digest.update(block)
            spans.append((row.offset, archive.data_start(row) + row.packed))
            name = _text(row.name)
            yield ArchiveEntry(
                path=name.rstrip("/") or name,
                kind=kind,
                mode=row.attributes >> 16 & 0o7777 if row.system == _UNIX else 0o644,
                size=row.size if kind == "file" else 0,
                sha256=digest.hexdigest() if kind == "file" else "",
                target=_text(link),
                mtime=_seconds(row),
                head=head,
            )
        _check_overlap(spans, path.name)
