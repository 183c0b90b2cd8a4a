"""Locks between processes: flock on a file, released by the kernel when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold ``path`` alone; waits for the present holder."""
    while True:
        handle = _open(path)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _still_named(handle, path):
            break
        os.close(handle)
    try:
        yield
    finally:
        os.close(handle)


def try_exclusive(path: Path) -> int | None:
    """Take ``path`` alone without waiting: a file descriptor to close, or None when somebody has it."""
    handle = _open(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    if not _still_named(handle, path):
        os.close(handle)
        return try_exclusive(path)
    return handle


def shared(path: Path) -> int:
    """Hold ``path`` together with others; returns a file descriptor to close."""
    handle = _open(path)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def upgrade(handle: int) -> bool:
    """Turn a shared hold into an exclusive one, if nobody else holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _still_named(handle: int, path: Path) -> bool:
    """Say whether the locked file is the one at ``path``: its last holder may have removed it meanwhile."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(handle)
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
