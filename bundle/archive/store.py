"""A content-addressed cache on disk that concurrent builds may share.

An entry is a file that appears by rename and begins with the digest of its payload; an entry that does not
match its digest is removed and counts as absent. When the cache outgrows its limit, the entries that were not
used for the longest time go.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bundle.archive.output import make_folders
from bundle.errors import UsageError

_MAGIC = b"SYSVM-1\n"
_HEADER = len(_MAGIC) + hashlib.sha256().digest_size
_BLOCK = 1 << 20
_TOUCH_AFTER = 3600.0
DEFAULT_LIMIT = 2048 << 20


def configured_limit() -> int:
    """Return the size limit in bytes; ``SYSVM_BUNDLE_CACHE_MIB`` overrides the default of 2 GiB.

    Raises:
        UsageError: the variable is not a whole number.
    """
    value = os.environ.get("SYSVM_BUNDLE_CACHE_MIB", "")
    if not value:
        return DEFAULT_LIMIT
    if not value.isascii() or not value.isdigit():
        raise UsageError(f"invalid SYSVM_BUNDLE_CACHE_MIB {value!r} (expected a whole number of MiB)")
    return int(value) << 20


class Store:
    """The cache below one folder; where that cannot be written, every lookup is a miss and never an error."""

    def __init__(self, root: Path, limit: int = DEFAULT_LIMIT) -> None:
        """Use ``root``, which appears with the first entry; keep it below ``limit`` bytes."""
        self.root = root
        self.limit = limit
        self._grown = False

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.root / name[:2] / name

    def open(self, key: str) -> BinaryIO | None:
        """Return an entry, proven against its digest and positioned at its payload, or None."""
        path = self._path(key)
        try:
            file = path.open("rb", buffering=0)
        except OSError:
            return None
        digest = hashlib.sha256()
        header = file.read(_HEADER)
        while block := file.read(_BLOCK):
            digest.update(block)
        if header != _MAGIC + digest.digest():
            file.close()
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            if time.time() - os.fstat(file.fileno()).st_mtime > _TOUCH_AFTER:
                os.utime(path)
        file.seek(_HEADER)
        return file

    def get(self, key: str) -> bytes | None:
        """Return the payload of an entry, or None."""
        file = self.open(key)
        if file is None:
            return None
        with file:
            return file.read()

    def put(self, key: str, payload: bytes) -> None:
        """Keep a payload."""
        with self.writer(key) as writer:
            writer.write(payload)

    @contextlib.contextmanager
    def writer(self, key: str) -> Iterator[Writer]:
        """Take the payload of a new entry, which appears when the block ends without an error."""
        writer = self.begin(key)
        try:
            yield writer
            self.commit(writer)
        finally:
            writer.discard()

    def begin(self, key: str) -> Writer:
        """Return what takes the payload of a new entry; it ends with :meth:`commit` or its own ``discard``."""
        return Writer(self._path(key), self.limit // 2)

    def commit(self, writer: Writer) -> None:
        """Let a new entry appear."""
        self._grown |= writer.commit()

    def trim(self) -> None:
        """Remove the entries that were unused for the longest time until the cache is within its limit."""
        if not self._grown:
            return
        self._grown = False
        entries: list[tuple[float, int, Path]] = []
        for path in self.root.glob("??/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


class Writer:
    """Writes one entry beside its place; gives up silently when the disk or the limit does not allow it."""

    def __init__(self, path: Path, limit: int) -> None:
        """Write the entry of ``path`` unless it grows beyond ``limit`` bytes."""
        self._path = path
        self._left = limit
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._temporary = ""
        with contextlib.suppress(OSError):
            if not path.parent.is_dir():
                make_folders(path.parent)
            handle, self._temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
            self._file = os.fdopen(handle, "wb")
            self._file.write(bytes(_HEADER))

    def write(self, block: bytes) -> None:
        """Append to the payload."""
        if self._file is None:
            return
        self._left -= len(block)
        if self._left < 0:
            self.discard()
            return
        try:
            self._file.write(block)
            self._digest.update(block)
        except OSError:
            self.discard()

    def commit(self) -> bool:
        """Let the entry appear; returns whether it did."""
        if self._file is None:
            return False
        try:
            self._file.seek(0)
            self._file.write(_MAGIC + self._digest.digest())
            self._file.close()
            Path(self._temporary).replace(self._path)
        except OSError:
            self.discard()
            return False
        self._file = None
        return True

    def discard(self) -> None:
        """Forget what was written, unless it was committed."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            Path(self._temporary).unlink()
        self._file = None
