"""Digests of files: of finished ones, and of one that is still being written."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

_BLOCK = 1 << 20


def file_digest(path: Path, algorithm: str) -> str:
    """Return the digest of a file in lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


class TrailingDigest:
    """Follows a file that is being written and digests what will not change any more.

    The writer may go back and patch bytes as long as it has not announced them with :meth:`advance`.
    """

    def __init__(self, handle: int, algorithms: tuple[str, ...]) -> None:
        """Follow the file behind a descriptor that can be read."""
        self._handle = handle
        self._digests = {name: hashlib.new(name) for name in algorithms}
        self._final = 0
        self._closed = False
        self._error: OSError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, name="trailing-digest", daemon=True)
        if algorithms:
            self._thread.start()

    def advance(self, offset: int) -> None:
        """Announce that the bytes before ``offset`` are final."""
        with self._changed:
            self._final = offset
            self._changed.notify()

    def finish(self) -> dict[str, str]:
        """Wait for the rest and return the digests in lower-case hex by algorithm.

        Raises:
            OSError: the file could not be read back.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._digests:
            self._thread.join()
        if self._error is not None:
            raise self._error
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def _follow(self) -> None:
        done = 0
        while True:
            with self._changed:
                while not self._closed and self._final <= done:
                    self._changed.wait()
                final, closed = self._final, self._closed
            try:
                while done < final:
                    block = os.pread(self._handle, min(_BLOCK, final - done), done)
                    if not block:
                        break
                    for digest in self._digests.values():
                        digest.update(block)
                    done += len(block)
            except OSError as error:
                self._error = error
                return
            if closed:
                return
