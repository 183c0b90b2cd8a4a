"""Folders that other users of the host must not look into: made closed, and checked before they are used."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bundle.errors import InfrastructureError, UsageError

# Bytes of the name of a UNIX socket, without the NUL at its end.
_SOCKET_NAME = 107


def closed_folder(path: Path) -> Path:
    """Return a folder that is ours and that others can neither read nor change, made if it is not there.

    Raises:
        InfrastructureError: it is another user's, a link, or others may write to it; or it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = path.lstat()
    except OSError as error:
        raise InfrastructureError(f"cannot make the folder {path}: {error.strerror}") from None
    problem = _problem(facts)
    if problem:
        raise InfrastructureError(
            f"{path} {problem}", hint="remove it, or name another folder with SYSVM_STATE"
        )
    # Root's QEMU is another user, who passes through until :func:`open_to` knows which.
    allowed = 0o711 if os.geteuid() == 0 else 0o700
    if stat.S_IMODE(facts.st_mode) & ~allowed:
        path.chmod(facts.st_mode & allowed)
    return path


def _problem(facts: os.stat_result) -> str:
    """Return why a folder cannot be trusted, or nothing."""
    if stat.S_ISLNK(facts.st_mode):
        return "is a link, which anybody may have made"
    if not stat.S_ISDIR(facts.st_mode):
        return "is no folder"
    if facts.st_uid != os.geteuid():
        return f"belongs to another user ({facts.st_uid})"
    if facts.st_mode & 0o022:
        return f"may be changed by others (mode {stat.S_IMODE(facts.st_mode):04o})"
    return ""


def open_to(path: Path, uid: int, gid: int) -> None:
    """Close a folder to all but us and the group of QEMU, which passes through where it runs as another user.

    Raises:
        InfrastructureError: the folder is another user's.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        foreign = uid != os.geteuid()
        if foreign:
            os.chown(path, -1, gid)
        path.chmod(0o710 if foreign else 0o700)
    except OSError as error:
        raise InfrastructureError(
            f"cannot close the folder {path} to others: {error.strerror}", hint="it must belong to you"
        ) from None


def socket_name(path: Path) -> Path:
    """Return the path of a socket.

    Raises:
        UsageError: no socket can have it.
    """
    if (length := len(os.fsencode(path))) > _SOCKET_NAME:
        raise UsageError(
            f"the socket {path} would have a name of {length} bytes (at most {_SOCKET_NAME})",
            hint="name a folder with a shorter path with SYSVM_STATE",
        )
    return path
