"""Let a finished folder or file appear at its place by one rename, whatever was there before."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bundle.errors import InfrastructureError, UsageError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_ATTEMPTS = 100


def _exchange(one: Path, two: Path) -> bool:
    """Swap two names at once; False where the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    status = libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(two), _RENAME_EXCHANGE)
    if status == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.ENOSYS, errno.EINVAL}:
        return False
    raise OSError(code, os.strerror(code), str(two))


def _replace_folder(new: Path, place: Path) -> None:
    """Put ``new`` at ``place``; what was there before ends up below the parent of ``new`` or is gone."""
    for _ in range(_ATTEMPTS):
        try:
            new.rename(place)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        else:
            return
        with contextlib.suppress(FileNotFoundError):
            if _exchange(new, place):
                return
            place.rename(new.with_name("replaced"))
            shutil.rmtree(new.with_name("replaced"))
    raise InfrastructureError(
        f"{place}: other processes keep replacing the folder", hint="choose another output"
    )


def _may_replace(target: Path, replaceable: Callable[[Path], bool]) -> bool:
    """Say whether a folder may be replaced: an absent or empty one, or one of which ``replaceable`` says so."""
    for _ in range(_ATTEMPTS):
        try:
            before = target.stat().st_ino
            if not any(target.iterdir()) or replaceable(target):
                return True
            # Another build may have swapped the folder and emptied the one that was being listed.
            if target.stat().st_ino == before:
                return False
        except FileNotFoundError:
            if not target.exists():
                return True
    return False


@contextlib.contextmanager
def errors(place: Path) -> Iterator[None]:
    """Report a failed write as the machine's fault, with the place that was to be written."""
    try:
        yield
    except OSError as error:
        raise InfrastructureError(f"cannot write {place}: {error.strerror or error}") from error


def make_folders(path: Path) -> None:
    """Make a folder and those above it with mode 0755, whatever the umask; present ones stay as they are."""
    for parent in (*reversed(path.parents), path):
        with contextlib.suppress(FileExistsError):
            parent.mkdir()
            parent.chmod(0o755)


@contextlib.contextmanager
def folder(place: Path, replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """Give an empty folder beside ``place``; it takes that name when the block ends without an error.

    Args:
        place: where the folder is to appear. Folders above it are made.
        replaceable: says whether a folder that is there now may be replaced; an empty one always may.

    Raises:
        UsageError: something else is at ``place``.
        InfrastructureError: the disk is full, or the place cannot be written.
    """
    target = Path.cwd() / place
    with errors(place):
        if target.is_symlink():
            target = target.resolve()
        if target.exists() and not target.is_dir():
            raise UsageError(f"{place}: exists and is not a folder")
        if not _may_replace(target, replaceable):
            raise UsageError(f"{place}: holds something else", hint="choose a new or empty folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            new = scratch / "new"
            new.mkdir()
            yield new
            new.chmod(0o755)
            _replace_folder(new, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def file(place: Path, mode: int = 0o644) -> Iterator[Path]:
    """Give the name of a file to write; it becomes ``place`` when the block ends without an error.

    Raises:
        InfrastructureError: the disk is full, or the place cannot be written.
    """
    with errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            new = scratch / place.name
            yield new
            new.chmod(mode)
            new.replace(place)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file with exactly this mode, whatever the umask."""
    path.write_bytes(data)
    path.chmod(mode)
