"""Give the packed data of the members of agent.zip: from the cache, or compressed in parallel."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

from bundle.archive.deflate import FLAVOUR, deflate, in_order, submit_chunks
from bundle.archive.measure import checked_blocks
from bundle.archive.members import Member
from bundle.archive.store import Store
from bundle.archive.zip_format import DEFLATED, STORED

# Up to this size a member is packed in one go; several smaller ones are packed in one task.
_SMALL = 1 << 20
_GROUP = 128
_WORTH_A_TASK = 256 * 1024
_CACHE_FROM = 32 * 1024
_SAMPLE = 32 * 1024
# Under "fast" a member is stored when it would shrink by less than this share: when three samples of it do, or when
# less than this of a jar is not deflated inside (docs/adr/0012 has the measurement).
_WORTH_IT = 0.10
# Of a zip archive's end record: entries, size and offset of the directory. Of a directory's row: method, packed size,
# lengths of name, extra field and comment; what follows them before the name.
_END = struct.Struct("<10xHLL2x")
_ROW = struct.Struct("<10xH8xL4xHHH")
_ROW_REST = 12
_END_AT_MOST = 22 + 0xFFFF
_LARGEST_DIRECTORY = 64 << 20

Compress = Literal["fast", "small"]
COMPRESS: tuple[Compress, ...] = ("fast", "small")
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class PackedPart:
    """A piece of one member's packed data.

    Attributes:
        method: how the member is packed.
        blocks: the data; a tuple when all of it is in memory.
        last: whether the member ends here.
        keep: the key under which the cache wants a copy; empty when it does not.
        missing: whether the data does not exist yet.
    """

    method: int
    blocks: Iterable[bytes] = ()
    last: bool = True
    keep: str = ""
    missing: bool = False


def _is_packed(file: BinaryIO) -> bool:
    """Say whether a file is a zip archive, such as a jar, whose content is deflated: its own directory says so."""
    if file.read(4) != b"PK\x03\x04":
        return False
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_AT_MOST))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        return False
    count, length, offset = _END.unpack_from(tail, at)
    if offset + length > size or length > _LARGEST_DIRECTORY:
        return False
    file.seek(offset)
    return _stored_bytes(file.read(length), count) <= _WORTH_IT * size


def _stored_bytes(directory: bytes, count: int) -> int:
    """Return the size of the members that a zip archive stores as they are; of a broken directory, of those before."""
    stored = at = 0
    for _ in range(count):
        if at + _ROW.size > len(directory):
            break
        method, packed, name, extra, comment = _ROW.unpack_from(directory, at)
        stored += 0 if method else packed
        at += _ROW.size + name + extra + comment + _ROW_REST
    return stored


def _shrinks(member: Member, compress: Compress) -> bool:
    """Say whether deflate is worth it: for a zip archive as its directory says, else as three samples do."""
    if member.source is None:
        return False
    if compress == "small":
        return True
    with member.source.open("rb") as file:
        if _is_packed(file):
            return False
        sample = b""
        for at in (0, member.size // 2, max(0, member.size - _SAMPLE)):
            file.seek(at)
            sample += file.read(_SAMPLE)
    return len(deflate(sample, level=1)) < (1 - _WORTH_IT) * len(sample)


def _groups(members: Iterable[Member]) -> Iterator[list[Member]]:
    """Gather neighbours that are small; a large member stays alone."""
    group: list[Member] = []
    size = 0
    for member in members:
        if group and (size + member.size > _SMALL or len(group) == _GROUP):
            yield group
            group, size = [], 0
        group.append(member)
        size += member.size
    if group:
        yield group


class Packer:
    """Packs members with a pool of threads and a cache."""

    def __init__(self, pool: Executor, store: Store | None, depth: int, compress: Compress = "fast") -> None:
        """Compress in ``pool`` with at most ``depth`` pieces under way; ``store`` is the cache, if any."""
        self._compress: Compress = compress
        self._pool = pool
        self._store = store
        self._depth = depth

    def pack(self, members: Iterable[Member]) -> Iterator[tuple[Member, PackedPart]]:
        """Yield every member with its parts, in order.

        Raises:
            UsageError: a source file changed since it was measured.
        """
        for group, parts in in_order(self._tasks(members), self._depth):
            yield from zip(group, parts, strict=True)

    def keep(self, key: str, data: Iterable[bytes]) -> None:
        """Give packed data to the cache."""
        if self._store is not None and key:
            with self._store.writer(key) as writer:
                for block in data:
                    writer.write(block)

    def _tasks(self, members: Iterable[Member]) -> Iterator[tuple[list[Member], Future[list[PackedPart]]]]:
        for group, ready in self._looked_up(members):
            if group[0].size <= _SMALL or not ready.result()[0].missing:
                yield group, ready
                continue
            for last, future in submit_chunks(self._pool, checked_blocks(group[0])):
                yield group, _then(future, last, self._key(group[0]))

    def _looked_up(
        self, members: Iterable[Member]
    ) -> Iterator[tuple[list[Member], Future[list[PackedPart]]]]:
        """Start the lookup of members some way ahead; small ones are compressed at once."""
        ahead: deque[tuple[list[Member], Future[list[PackedPart]]]] = deque()
        for group in _groups(members):
            ahead.append((group, self._start(group)))
            if len(ahead) > self._depth:
                yield ahead.popleft()
        yield from ahead

    def _start(self, group: list[Member]) -> Future[list[PackedPart]]:
        if group[0].size > _SMALL:
            return self._pool.submit(self._large, group)
        if sum(member.size for member in group) >= _WORTH_A_TASK:
            return self._pool.submit(self._whole, group)
        # Threads would spend more time on handing over than on so little data.
        done: Future[list[PackedPart]] = Future()
        done.set_result(self._whole(group))
        return done

    def _large(self, group: list[Member]) -> list[PackedPart]:
        return [self._known(group[0]) or PackedPart(DEFLATED, missing=True)]

    def _whole(self, group: list[Member]) -> list[PackedPart]:
        return [self._one(member) for member in group]

    def _one(self, member: Member) -> PackedPart:
        if (known := self._known(member)) is not None:
            return replace(known, blocks=tuple(known.blocks))
        plain = b"".join(checked_blocks(member))
        packed = deflate(plain)
        if len(packed) >= len(plain):
            return PackedPart(STORED, (plain,))
        if member.size >= _CACHE_FROM:
            self.keep(self._key(member), (packed,))
        return PackedPart(DEFLATED, (packed,))

    def _key(self, member: Member) -> str:
        return f"zip-member {member.sha256} {FLAVOUR} {self._compress} {_WORTH_IT}"

    def _known(self, member: Member) -> PackedPart | None:
        """Return a member that the cache has, or that is stored as it is; None when it must be compressed."""
        stored = PackedPart(STORED, checked_blocks(member))
        if member.kind == "dir" or member.size == 0:
            return stored
        if self._store is None or member.size < _CACHE_FROM:
            return None if member.size < _CACHE_FROM or _shrinks(member, self._compress) else stored
        if (file := self._store.open(self._key(member))) is not None:
            return _cached(file) or stored
        if _shrinks(member, self._compress):
            return None
        self._store.put(self._key(member), b"")
        return stored


def _then(future: Future[bytes], last: bool, key: str) -> Future[list[PackedPart]]:
    """Return a future of the part that a compressed chunk becomes."""
    result: Future[list[PackedPart]] = Future()

    def done(finished: Future[bytes]) -> None:
        error = finished.exception()
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result([PackedPart(DEFLATED, (finished.result(),), last, key)])

    future.add_done_callback(done)
    return result


def _cached(file: BinaryIO) -> PackedPart | None:
    """Return the part that a cache entry holds; None for the empty entry, which says 'store it as it is'."""
    first = file.read(_BLOCK)
    if not first:
        file.close()
        return None

    def blocks() -> Iterator[bytes]:
        with file:
            yield first
            while block := file.read(_BLOCK):
                yield block

    return PackedPart(DEFLATED, blocks())
