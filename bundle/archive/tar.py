"""Write cloud-scripts.tgz: an ustar archive whose bytes depend on its members and one time stamp only."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor

from bundle.archive.deflate import in_order, submit_chunks
from bundle.archive.measure import checked_blocks
from bundle.archive.members import Member

_BLOCK = 512
_RECORD = 20 * _BLOCK
_USTAR_SIZE = 8 << 30
_NAME, _PREFIX = 100, 155
# Magic, deflate, no flags, no time, no extra flags, unknown system: what CloudStack's own build writes, too.
_GZIP_HEADER = bytes.fromhex("1f8b08000000000000ff")


def _octal(value: int, width: int) -> bytes:
    return f"{value:0{width - 1}o}".encode() + b"\0"


def _split(path: bytes) -> tuple[bytes, bytes] | None:
    """Return prefix and name as ustar wants them, or None when the path does not fit."""
    if len(path) <= _NAME:
        return b"", path
    for at in range(min(len(path) - 2, _PREFIX), 0, -1):
        if path[at : at + 1] == b"/" and len(path) - at - 1 <= _NAME:
            return path[:at], path[at + 1 :]
    return None


def _header(path: tuple[bytes, bytes], mode: int, size: int, epoch: int, kind: bytes) -> bytes:
    prefix, name = path
    fields = [
        name.ljust(_NAME, b"\0"),
        _octal(mode, 8),
        _octal(0, 8),
        _octal(0, 8),
        _octal(size, 12),
        _octal(epoch, 12),
        b" " * 8,
        kind,
        bytes(_NAME),
        b"ustar\x0000",
        bytes(64),
        _octal(0, 8),
        _octal(0, 8),
        prefix.ljust(_PREFIX, b"\0"),
        bytes(12),
    ]
    block = b"".join(fields)
    return block[:148] + f"{sum(block):06o}".encode() + b"\0 " + block[156:]


def _pad(size: int, unit: int = _BLOCK) -> bytes:
    return bytes(-size % unit)


def _record(key: str, value: bytes) -> bytes:
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


def entry_header(member: Member, epoch: int) -> bytes:
    """Return what stands before a member's content, with a pax header where ustar is too narrow."""
    directory = member.kind == "dir"
    path = member.path.encode() + (b"/" if directory else b"")
    place = _split(path) if path.isascii() else None
    records = b"" if place else _record("path", path)
    if member.size >= _USTAR_SIZE:
        records += _record("size", str(member.size).encode())
    size = 0 if member.size >= _USTAR_SIZE else member.size
    header = _header(place or (b"", path[:_NAME]), member.mode, size, epoch, b"5" if directory else b"0")
    if not records:
        return header
    extension = _header((b"", b"PaxHeaders/" + path[-80:].strip(b"/")), 0o644, len(records), epoch, b"x")
    return extension + records + _pad(len(records)) + header


def tar_stream(members: Iterable[Member], epoch: int) -> Iterator[bytes]:
    """Yield the bytes of the uncompressed archive.

    Raises:
        UsageError: a source file changed since it was measured.
    """
    total = 0
    for member in members:
        header = entry_header(member, epoch)
        yield header
        yield from checked_blocks(member)
        if padding := _pad(member.size):
            yield padding
        total += len(header) + member.size + len(padding)
    yield bytes(2 * _BLOCK) + _pad(total + 2 * _BLOCK, _RECORD)


class _Sum:
    """Passes blocks on and keeps what the gzip trailer says about them."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.crc = self.size = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.crc = zlib.crc32(block, self.crc)
            self.size += len(block)
            yield block


def tgz_stream(members: Iterable[Member], epoch: int, pool: Executor, depth: int) -> Iterator[bytes]:
    """Yield the bytes of the gzip-compressed archive; at most ``depth`` chunks are under way in ``pool``."""
    plain = _Sum(tar_stream(members, epoch))
    yield _GZIP_HEADER
    for _, data in in_order(submit_chunks(pool, plain), depth):
        yield data
    yield plain.crc.to_bytes(4, "little") + (plain.size & 0xFFFFFFFF).to_bytes(4, "little")
