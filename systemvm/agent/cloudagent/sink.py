"""A file that appears under its name when all of it is there, written without holding up the heartbeat."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path
from typing import Any, Callable

BLOCK = 1 << 18


class Sink:
    """A new file as an asynchronous context manager: what ends early leaves nothing behind."""

    def __init__(self, path: Path) -> None:
        """Take the name that the file is going to have."""
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._file: Any = None
        self._digest = hashlib.sha256()

    async def __aenter__(self) -> "Sink":
        """Make the file beside its name."""
        await _aside(self._open)
        return self

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("wb")

    async def write(self, data: bytes) -> None:
        """Append."""
        await _aside(lambda: self._append(data))

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)

    @property
    def sha256(self) -> str:
        """The digest of what was written, in hexadecimal."""
        return self._digest.hexdigest()

    async def keep(self) -> None:
        """Put the file under its name; it is on the disk then."""
        await _aside(self._keep)

    def _keep(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self._path)

    async def __aexit__(self, *_: object) -> None:
        """Remove what was not kept."""
        await asyncio.shield(_aside(self._discard))

    def _discard(self) -> None:
        self._file.close()
        if self._part.exists():
            self._part.unlink()


async def _aside(work: Callable[[], None]) -> None:
    """Do what may wait for a disk or a server in a thread."""
    await asyncio.get_event_loop().run_in_executor(None, work)


async def free_space(folder: Path) -> int:
    """Return the bytes that a file below a folder may take; of the folder that exists above it, if it does not.

    As many as there can be, where the file system does not say how large it is.
    """
    found = []

    def ask() -> None:
        existing = folder
        while not existing.exists():
            existing = existing.parent
        state = os.statvfs(str(existing))
        # A share whose server does not say how large it is has no room of its own to tell; it refuses when it is full.
        found.append(state.f_bavail * state.f_frsize if state.f_blocks else sys.maxsize)

    await _aside(ask)
    return found[0]
