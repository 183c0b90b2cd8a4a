"""Write agent.zip, compressed in parallel: its bytes depend on its members and one time stamp only."""

from __future__ import annotations

import stat
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import BinaryIO

from bundle.deflate import FLAVOUR, deflate, in_order, submit_chunks
from bundle.digest import TrailingDigest
from bundle.members import Member
from bundle.reading import checked_blocks
from bundle.store import Store, Writer

STORED, DEFLATED = 0, 8
_SMALL = 1 << 20
_CACHE_FROM = 32 * 1024
_SAMPLE = 32 * 1024
# A member is stored when three samples of it shrink by less than this share (docs/adr/0012 has the
# measurement).
_WORTH_IT = 0.10
_LIMIT32, _LIMIT16 = 0xFFFFFFFF, 0xFFFF
# Deflate may make data slightly larger: leave room below 4 GiB.
_ZIP64_FROM = 0xF0000000
_UTF8 = 0x800
_FIRST_DOS_SECOND, _LAST_DOS_SECOND = 315532800, 4354819198
_BLOCK = 1 << 20
# Stands for packed data that does not exist yet.
_UNKNOWN: tuple[bytes, ...] = (b"unknown",)


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of one member's packed data; ``keep`` is its cache key when it has to be kept."""

    method: int
    blocks: Iterable[bytes]
    last: bool = True
    keep: str = ""


@dataclass(frozen=True, slots=True)
class _Record:
    member: Member
    method: int
    packed: int
    offset: int


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


def _local_header(member: Member, method: int, packed: int, epoch: int) -> bytes:
    name, big = _name(member), member.size >= _ZIP64_FROM
    date, clock = dos_time(epoch)
    extra = struct.pack("<HHQQ", 1, 16, member.size, packed) if big else b""
    sizes = (_LIMIT32, _LIMIT32) if big else (packed, member.size)
    fields = (0x04034B50, 45 if big else 20, _flags(name), method, clock, date, member.crc32, *sizes)
    return struct.pack("<LHHHHHLLLHH", *fields, len(name), len(extra)) + name + extra


def _central_header(record: _Record, epoch: int) -> bytes:
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


def _end(count: int, size: int, offset: int) -> bytes:
    end = b""
    if count >= _LIMIT16 or size >= _LIMIT32 or offset >= _LIMIT32:
        fields = (0x06064B50, 44, 3 << 8 | 45, 45, 0, 0, count, count, size, offset)
        end = struct.pack("<LQHHLLQQQQ", *fields) + struct.pack("<LLQL", 0x07064B50, 0, offset + size, 1)
    count, size, offset = min(count, _LIMIT16), min(size, _LIMIT32), min(offset, _LIMIT32)
    return end + struct.pack("<LHHHHLLH", 0x06054B50, 0, 0, count, count, size, offset, 0)


def _shrinks(member: Member) -> bool:
    """Say whether deflate is worth it: tried at the lowest level on the begin, the middle and the end."""
    if member.source is None:
        return False
    with member.source.open("rb") as file:
        sample = b""
        for at in (0, member.size // 2, max(0, member.size - _SAMPLE)):
            file.seek(at)
            sample += file.read(_SAMPLE)
    return len(deflate(sample, level=1)) < (1 - _WORTH_IT) * len(sample)


class Packer:
    """Gives the packed data of members, from the cache or made in parallel."""

    def __init__(self, pool: Executor, store: Store | None, depth: int) -> None:
        """Compress in ``pool`` with at most ``depth`` pieces under way; ``store`` is the cache, if any."""
        self._pool = pool
        self._store = store
        self._depth = depth

    def pack(self, members: Iterable[Member]) -> Iterator[tuple[Member, _Part]]:
        """Yield every member with its parts, in order."""
        return in_order(self._tasks(members), self._depth)

    def _tasks(self, members: Iterable[Member]) -> Iterator[tuple[Member, Future[_Part]]]:
        for member, ready in self._looked_up(members):
            if member.size <= _SMALL:
                yield member, ready
                continue
            if ready.result().blocks is not _UNKNOWN:
                yield member, ready
                continue
            for last, future in submit_chunks(self._pool, checked_blocks(member)):
                yield member, _then(future, last, self._key(member))

    def _looked_up(self, members: Iterable[Member]) -> Iterator[tuple[Member, Future[_Part]]]:
        """Start the lookup of members some way ahead; small ones are compressed at once."""
        ahead: deque[tuple[Member, Future[_Part]]] = deque()
        for member in members:
            ahead.append(
                (member, self._pool.submit(self._whole if member.size <= _SMALL else self._large, member))
            )
            if len(ahead) > self._depth:
                yield ahead.popleft()
        yield from ahead

    def _large(self, member: Member) -> _Part:
        return self._known(member) or _Part(DEFLATED, _UNKNOWN)

    @staticmethod
    def _key(member: Member) -> str:
        return f"zip-member {member.sha256} {FLAVOUR} {_WORTH_IT}"

    def _known(self, member: Member) -> _Part | None:
        """Return a member that the cache has, or that is stored as it is; None when it must be compressed."""
        stored = _Part(STORED, checked_blocks(member))
        if member.kind == "dir" or member.size == 0:
            return stored
        if self._store is None or member.size < _CACHE_FROM:
            return None if member.size < _CACHE_FROM or _shrinks(member) else stored
        if (file := self._store.open(self._key(member))) is not None:
            part = _cached(file)
            return stored if part is None else part
        if _shrinks(member):
            return None
        self._store.put(self._key(member), b"")
        return stored

    def _whole(self, member: Member) -> _Part:
        if (known := self._known(member)) is not None:
            return replace(known, blocks=tuple(known.blocks))
        plain = b"".join(checked_blocks(member))
        packed = deflate(plain)
        if len(packed) >= len(plain):
            return _Part(STORED, (plain,))
        return _Part(DEFLATED, (packed,), keep=self._key(member) if member.size >= _CACHE_FROM else "")

    def keeper(self, key: str, stack: ExitStack) -> Writer | None:
        """Return what takes a copy of a member's packed data for the cache, or None."""
        return stack.enter_context(self._store.writer(key)) if self._store is not None and key else None


def _then(future: Future[bytes], last: bool, key: str) -> Future[_Part]:
    """Return a future of the part that a compressed chunk becomes."""
    result: Future[_Part] = Future()

    def done(finished: Future[bytes]) -> None:
        error = finished.exception()
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(_Part(DEFLATED, (finished.result(),), last, key))

    future.add_done_callback(done)
    return result


def _cached(file: BinaryIO) -> _Part | None:
    """Return the part that a cache entry holds; None for the empty entry, which says 'store it as it is'."""
    at = file.tell()
    empty = not file.read(1)
    file.seek(at)
    if empty:
        file.close()
        return None

    def blocks() -> Iterator[bytes]:
        with file:
            while block := file.read(_BLOCK):
                yield block

    return _Part(DEFLATED, blocks())


def write_zip(
    file: BinaryIO, members: list[Member], epoch: int, packer: Packer, follower: TrailingDigest
) -> int:
    """Write the archive to a file opened for writing and reading; returns its size in bytes.

    Args:
        file: where to write, unbuffered or buffered, positioned at 0.
        members: the entries, in order.
        epoch: time stamp of every entry, in seconds since 1970.
        packer: gives the packed data.
        follower: is told how many bytes are final.

    Raises:
        UsageError: a source file changed since it was measured.
    """
    records: list[_Record] = []
    offset = position = 0
    stack, writer, started = ExitStack(), None, False
    with stack:
        for member, part in packer.pack(members):
            if not started:
                offset = position
                position += file.write(_local_header(member, part.method, 0, epoch))
                start, started = position, True
                writer = packer.keeper(part.keep, stack)
            for block in part.blocks:
                position += file.write(block)
                if writer is not None:
                    writer.write(block)
            if not part.last:
                continue
            packed, started = position - start, False
            stack.close()
            file.seek(offset)
            file.write(_local_header(member, part.method, packed, epoch))
            file.seek(position)
            file.flush()
            follower.advance(position)
            records.append(_Record(member, part.method, packed, offset))
        directory = position
        for record in records:
            position += file.write(_central_header(record, epoch))
        position += file.write(_end(len(records), position - directory, directory))
    file.flush()
    follower.advance(position)
    return position
