"""Read every source file once: size, digest, checksum and the first bytes, in parallel."""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path

from bundle.archive.members import Archive, Item, Member
from bundle.archive.modes import ModeRule, mode_of
from bundle.errors import UsageError

BLOCK = 1 << 20
_WORTH_A_TASK = 64 * 1024
# Files that are open at the same time.
_AHEAD = 64


def open_regular(path: Path) -> int:
    """Open a regular file for reading and return its descriptor; never waits, never opens a device.

    Raises:
        UsageError: the file cannot be read, or is not a regular file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UsageError(f"{path}: not a regular file")
    return handle


def _read(file: FileIO, size: int, path: Path) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def blocks(path: Path, size: int = BLOCK) -> Iterator[bytes]:
    """Yield the content of a regular file in blocks of ``size`` bytes; only the last may be shorter."""
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        while block := _read(file, size, path):
            yield block


def _changed(path: Path) -> UsageError:
    return UsageError(
        f"{path}: the file changed while it was read", hint="build again when nothing writes to it"
    )


def checked_blocks(member: Member, size: int = BLOCK) -> Iterator[bytes]:
    """Yield a member's content again and make sure that it is still what was measured.

    Raises:
        UsageError: the file changed since it was measured.
    """
    if member.source is None:
        return
    count = crc = 0
    for block in blocks(member.source, size):
        count += len(block)
        crc = zlib.crc32(block, crc)
        if count > member.size:
            raise _changed(member.source)
        yield block
    if (count, crc) != (member.size, member.crc32):
        raise _changed(member.source)


def _folder(item: Item, archive: Archive, rule: ModeRule) -> Member:
    return Member(
        item.path, "dir", mode_of(rule, archive, item.path, "dir") if item.mode is None else item.mode
    )


def _file(item: Item, source: Path, handle: int, archive: Archive, rule: ModeRule) -> Member:
    """Measure one file through its descriptor, which is closed."""
    digest, crc, size, head = hashlib.sha256(), 0, 0, b""
    with os.fdopen(handle, "rb", buffering=0) as file:
        before = os.fstat(handle)
        while block := _read(file, BLOCK, source):
            head = head or block[:4]
            digest.update(block)
            crc = zlib.crc32(block, crc)
            size += len(block)
            if size > before.st_size:
                raise _changed(source)
        after = os.fstat(handle)
    if (before.st_mtime_ns, before.st_size, size) != (after.st_mtime_ns, after.st_size, after.st_size):
        raise _changed(source)
    mode = mode_of(rule, archive, item.path, "file", head) if item.mode is None else item.mode
    return Member(item.path, "file", mode, size, digest.hexdigest(), crc, source)


def measure(items: Iterable[Item], archive: Archive, rule: ModeRule, workers: int) -> list[Member]:
    """Turn items into members, in the given order.

    Args:
        items: what the archive holds.
        archive: the archive, which the mode rules ask for.
        rule: the mode rules.
        workers: number of threads that read.

    Raises:
        UsageError: a file cannot be read or changed while it was read.
    """
    found: list[Member | Future[Member]] = []
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            if item.source is None:
                found.append(_folder(item, archive, rule))
                continue
            handle = open_regular(item.source)
            # A task for every small file would cost more than reading it.
            if os.fstat(handle).st_size < _WORTH_A_TASK:
                found.append(_file(item, item.source, handle, archive, rule))
                continue
            found.append(pool.submit(_file, item, item.source, handle, archive, rule))
            if len(found) >= _AHEAD and isinstance(early := found[-_AHEAD], Future):
                early.result()
        return [row.result() if isinstance(row, Future) else row for row in found]
