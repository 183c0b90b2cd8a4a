"""The RAM of a guest that is to be frozen: in memory while the guest runs, in its snapshot afterwards.

A guest whose RAM is a file on a disk pays for that at the first write to each page, and again whenever the kernel has
written the page out: cold boots took 13 % longer. So the file lies in memory, and what the guest wrote is copied into
the snapshot when it stands still. It has a name only until QEMU has opened it, so that a killed run leaves nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import InfrastructureError
from harness.host.hypervisor import PREFIX, Hypervisor

MEMORY = Path("/dev/shm")  # noqa: S108 - the file gets its name complete, mode 0600, and for a moment only
SUFFIX = ".ram"


@dataclass(eq=False)
class Ram:
    """A file of a guest's RAM.

    Attributes:
        path: what QEMU opens.
        target: where the file is to be in the snapshot; ``path`` itself when there was no room in memory.
    """

    path: Path
    target: Path
    _handle: int | None = None

    def hide(self) -> None:
        """Take the name away: QEMU has opened the file."""
        if self._handle is not None:
            self.path.unlink(missing_ok=True)

    def keep(self, hypervisor: Hypervisor) -> None:
        """Put the RAM of a machine that stands still into the snapshot.

        Raises:
            InfrastructureError: the disk is full.
        """
        if self._handle is None:
            return
        size = os.fstat(self._handle).st_size
        try:
            _create(self.target, size, hypervisor)
            with self.target.open("r+b") as file:
                _copy(self._handle, file.fileno(), size)
        except OSError as error:
            raise InfrastructureError(f"cannot write {self.target}: {error.strerror}") from None

    def close(self) -> None:
        """Give the memory back; what was kept stays."""
        if self._handle is not None:
            self.hide()
            os.close(self._handle)
            self._handle = None


def make(target: Path, memory_mib: int, hypervisor: Hypervisor, name: str) -> Ram:
    """Make the file that a guest's RAM lies in, for QEMU alone: in memory, or at ``target`` where that has no room.

    Args:
        target: its place in the snapshot.
        memory_mib: how much RAM the guest has.
        hypervisor: whose QEMU opens it.
        name: of the domain.
    """
    path = MEMORY / f"{name}{SUFFIX}"
    handle = _in_memory(path, memory_mib << 20, hypervisor)
    if handle is not None:
        return Ram(path, target, handle)
    _create(target, memory_mib << 20, hypervisor)
    return Ram(target, target)


def remove_abandoned(hypervisor: Hypervisor) -> None:
    """Remove the files of runs that were killed before QEMU had opened them."""
    for path in MEMORY.glob(f"{PREFIX}*{SUFFIX}"):
        try:
            facts = path.lstat()
            if not stat.S_ISREG(facts.st_mode) or facts.st_uid not in (os.geteuid(), hypervisor.uid):
                continue
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            with contextlib.suppress(BlockingIOError):  # its maker holds it
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        finally:
            os.close(handle)


def _create(path: Path, size: int, hypervisor: Hypervisor) -> None:
    """Make a file without blocks, for QEMU alone."""
    with path.open("wb") as file:
        file.truncate(size)
    os.chown(path, hypervisor.uid, hypervisor.gid)
    path.chmod(0o600)


def _in_memory(path: Path, size: int, hypervisor: Hypervisor) -> int | None:
    """Return a locked file that holds all the memory it may need; None where that is not to be had."""
    if not MEMORY.is_mount():
        return None
    try:
        handle = os.open(MEMORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        # A page that is missing later would kill QEMU.
        os.posix_fallocate(handle, 0, size)
        os.fchown(handle, hypervisor.uid, hypervisor.gid)
        fcntl.flock(handle, fcntl.LOCK_EX)
        _name(handle, path)
    except OSError:
        os.close(handle)
        return None
    return handle


def _name(handle: int, path: Path) -> None:
    """Give a file without a name one; nobody ever sees it unlocked."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Python follows the link in /proc only when a folder is given.
        os.link(f"/proc/self/fd/{handle}", path.name, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def _copy(source: int, target: int, size: int) -> None:
    """Copy a file without its holes."""
    start = 0
    while start < size:
        try:
            start = os.lseek(source, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # the rest is a hole
                return
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            start += os.sendfile(target, source, start, end - start)
