"""Deflate in parallel with the same bytes for any number of workers.

A stream is cut into chunks of fixed size. Every chunk is compressed alone, with the 32 KiB before it as
dictionary, and ends on a byte boundary, so the pieces join to one ordinary deflate stream. The level was
chosen by measurement (docs/adr/0012).
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

CHUNK = 256 * 1024
LEVEL = 6
_WINDOW = 32 * 1024
# Names everything that the compressed bytes depend on, so that a cache never mixes two of them.
FLAVOUR = f"deflate-{LEVEL}-{CHUNK}-zlib-{zlib.ZLIB_RUNTIME_VERSION}"

_T = TypeVar("_T")
_Tag = TypeVar("_Tag")


def deflate(data: bytes, *, dictionary: bytes = b"", last: bool = True, level: int = LEVEL) -> bytes:
    """Compress one chunk to raw deflate; a chunk that is not the last ends on a byte boundary."""
    packer = (
        zlib.compressobj(level, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, dictionary)
        if dictionary
        else zlib.compressobj(level, zlib.DEFLATED, -15, 9)
    )
    return packer.compress(data) + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


def in_order(tasks: Iterable[tuple[_Tag, Future[_T]]], depth: int) -> Iterator[tuple[_Tag, _T]]:
    """Yield the results of tasks in their order, with at most ``depth`` of them under way."""
    pending: deque[tuple[_Tag, Future[_T]]] = deque()
    for task in tasks:
        pending.append(task)
        if len(pending) >= depth:
            tag, future = pending.popleft()
            yield tag, future.result()
    while pending:
        tag, future = pending.popleft()
        yield tag, future.result()


def chunks(blocks: Iterable[bytes], size: int = CHUNK) -> Iterator[tuple[bytes, bytes, bool]]:
    """Cut a stream of blocks into chunks: data, the 32 KiB before it, and whether it is the last."""
    buffer, dictionary = bytearray(), b""
    for block in blocks:
        buffer += block
        while len(buffer) > size:
            data = bytes(buffer[:size])
            del buffer[:size]
            yield data, dictionary, False
            dictionary = data[-_WINDOW:]
    yield bytes(buffer), dictionary, True


def submit_chunks(pool: Executor, blocks: Iterable[bytes]) -> Iterator[tuple[bool, Future[bytes]]]:
    """Start the compression of every chunk of a stream; yields whether it is the last, and its future."""
    task: Callable[..., bytes] = deflate
    for data, dictionary, last in chunks(blocks):
        yield last, pool.submit(task, data, dictionary=dictionary, last=last)
