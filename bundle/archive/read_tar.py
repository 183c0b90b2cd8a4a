"""Read a gzip-compressed tar archive as a stream; every oddity of the format is an error that names the entry."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

from bundle.archive.entries import ArchiveEntry, EntryKind
from bundle.archive.limits import Limits, Meter
from bundle.archive.text import HEAD
from bundle.errors import CheckFailed

_BLOCK = 512
_PIECE = 1 << 18
_KINDS: dict[bytes, EntryKind] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "device",
    b"4": "device",
    b"5": "dir",
    b"6": "device",
}


class _Gunzip:
    """The content of a gzip file as a stream that is never unpacked further than asked for."""

    def __init__(self, path: Path, where: str) -> None:
        self._file = path.open("rb", buffering=0)
        self._where = where
        self._packer = zlib.decompressobj(31)
        self._buffer = bytearray()
        self._begun = False

    def close(self) -> None:
        self._file.close()

    def fail(self, message: str) -> CheckFailed:
        return CheckFailed(f"{self._where}: {message}")

    def _more(self) -> bool:
        """Unpack some more into the buffer; returns False at the end of the file."""
        if self._packer.eof:
            if self._packer.unused_data or self._file.read(1):
                raise self.fail("bytes after the end of the gzip stream")
            return False
        data = self._packer.unconsumed_tail or self._file.read(_PIECE)
        try:
            unpacked = self._packer.decompress(data, _PIECE)
        except zlib.error as error:
            message = f"the gzip stream is corrupt ({error})" if self._begun else "not a gzip file"
            raise self.fail(message) from error
        if not data and not unpacked and not self._packer.eof:
            raise self.fail("the gzip stream is cut" if self._begun else "not a gzip file (it is empty)")
        self._buffer += unpacked
        self._begun = True
        return True

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes, or fewer at the end of the stream."""
        while len(self._buffer) < size and self._more():
            pass
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


def _number(field: bytes) -> int | None:
    """Return a numeric header field: octal, or base 256 as GNU tar writes large values; None when it is neither."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return None if field[0] & 0x40 else value
    text = field.strip(b" \0")
    if not text:
        return 0
    return int(text, 8) if all(48 <= char <= 55 for char in text) else None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(data: bytes) -> dict[str, str] | None:
    """Return the records of a pax header, or None when they are malformed."""
    records: dict[str, str] = {}
    while data:
        length, blank, _ = data.partition(b" ")
        if not blank or not length.isdigit() or len(length) > 8:
            return None
        size = int(length)
        record = data[len(length) + 1 : size]
        if size <= len(length) + 1 or size > len(data) or not record.endswith(b"\n"):
            return None
        key, equals, value = record[:-1].partition(b"=")
        if not equals:
            return None
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        data = data[size:]
    return records


class _Reader:
    def __init__(self, stream: _Gunzip, limits: Limits, where: str) -> None:
        self._stream = stream
        self._limits = limits
        self._meter = Meter(limits, where)
        self._records: dict[str, str] = {}

    def entries(self) -> Iterator[ArchiveEntry]:
        while True:
            header = self._stream.read(_BLOCK)
            if header == bytes(_BLOCK):
                self._end()
                return
            if len(header) < _BLOCK:
                raise self._stream.fail("the archive is cut: no end marker")
            self._check_sum(header)
            kind = header[156:157]
            size = self._size(header)
            if kind in b"xgLK":
                self._extension(kind, size)
                continue
            yield self._entry(header, kind, size)
            self._records = {}

    def _end(self) -> None:
        while block := self._stream.read(_PIECE):
            self._meter.content(len(block))
            if block.strip(b"\0"):
                raise self._stream.fail("data after the end marker")
        if self._records:
            raise self._stream.fail("an extended header without an entry")

    def _check_sum(self, header: bytes) -> None:
        if _number(header[148:156]) != sum(header[:148]) + sum(header[156:]) + 8 * 32:
            raise self._stream.fail(f"corrupt header of entry {_text(header[:100])!r}")

    def _size(self, header: bytes) -> int:
        value = self._records.get("size", "")
        size = (
            int(value)
            if value.isascii() and value.isdigit() and len(value) < 20
            else _number(header[124:136])
        )
        if size is None or (value and not value.isdigit()):
            raise self._stream.fail(f"impossible size of entry {_text(header[:100])!r}")
        return size

    def _extension(self, kind: bytes, size: int) -> None:
        if size > self._limits.header:
            raise self._stream.fail("an extended header is larger than 1 MiB")
        data = self._stream.read(size)
        self._stream.read(-size % _BLOCK)
        if len(data) < size:
            raise self._stream.fail("the archive is cut within an extended header")
        if kind == b"g":
            return
        if kind in b"LK":
            self._records["path" if kind == b"L" else "linkpath"] = _text(data)
            return
        records = _pax(data)
        if records is None:
            raise self._stream.fail("malformed extended header")
        self._records |= records

    def _entry(self, header: bytes, kind: bytes, size: int) -> ArchiveEntry:
        prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
        path = self._records.get("path") or (f"{prefix}/" if prefix else "") + _text(header[:100])
        self._meter.entry()
        numbers = [
            _number(header[at : at + width]) for at, width in ((100, 8), (108, 8), (116, 8), (136, 12))
        ]
        if None in numbers:
            raise self._stream.fail(f"impossible numbers in the header of entry {path!r}")
        mode, user, group, mtime = (number or 0 for number in numbers)
        what = _KINDS.get(kind, "other")
        if what == "file" and path.endswith("/"):
            what = "dir"
        # Only these carry content; GNU tar says a size for hard links that POSIX forbids.
        sha256, head = self._content(path, size if what in {"file", "other"} else 0)
        return ArchiveEntry(
            path=path.rstrip("/") or path,
            kind=what,
            mode=mode & 0o7777,
            size=size if what == "file" else 0,
            sha256=sha256 if what == "file" else "",
            owner=(user, group),
            target=self._records.get("linkpath") or _text(header[157:257]),
            mtime=mtime,
            head=head,
        )

    def _content(self, path: str, size: int) -> tuple[str, bytes]:
        digest, head, left = hashlib.sha256(), b"", size
        while left:
            block = self._stream.read(min(left, _PIECE))
            if not block:
                raise self._stream.fail(f"the archive is cut within {path!r}")
            head = head or block[:HEAD]
            digest.update(block)
            left -= len(block)
            self._meter.content(len(block))
        padding = -size % _BLOCK
        if len(self._stream.read(padding)) < padding:
            raise self._stream.fail(f"the archive is cut after {path!r}")
        return digest.hexdigest(), head


def read_tgz(path: Path, limits: Limits | None = None) -> Iterator[ArchiveEntry]:
    """Yield the entries of a ``.tgz`` in their order, with the digests of their content.

    Raises:
        CheckFailed: the file is not such an archive, is cut or corrupt, or exceeds the limits.
        OSError: the file cannot be read.
    """
    stream = _Gunzip(path, path.name)
    try:
        yield from _Reader(stream, limits or Limits(), path.name).entries()
    finally:
        stream.close()
