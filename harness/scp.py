"""Sending files by the legacy SCP protocol, which is what CloudStack's agents speak (the guest needs ``scp -t``)."""

from __future__ import annotations

import posixpath
import shlex
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import paramiko

    from harness.guest import Guest

_CHUNK = 1 << 16


class UploadFailed(Exception):
    """Internal: turned into a GuestError by ``send``."""


def send(guest: Guest, data: bytes, path: str, mode: int, deadline: float) -> None:
    """Send one file.

    Args:
        guest: where to.
        data: the whole content.
        path: absolute path in the guest; its folder exists.
        mode: permission bits.
        deadline: seconds for all of it.

    Raises:
        GuestError: the guest refused it, or the connection ended.
    """
    from harness.guest import GuestError

    folder, name = posixpath.split(path)
    channel = guest.channel(f"scp -t {shlex.quote(folder)}", deadline)
    channel.settimeout(deadline)
    started = time.monotonic()
    try:
        _acknowledged(channel)
        channel.sendall(f"C{mode:04o} {len(data)} {name}\n".encode())
        _acknowledged(channel)
        for offset in range(0, len(data), _CHUNK):
            if time.monotonic() - started > deadline:
                raise UploadFailed(f"not done within {deadline:g} s")  # noqa: TRY301 - one place turns all into one error
            channel.sendall(data[offset : offset + _CHUNK])
        channel.sendall(b"\0")
        _acknowledged(channel)
    except (UploadFailed, OSError, EOFError) as error:
        raise GuestError(f"{guest.name}: upload of {path} failed: {error or type(error).__name__}") from None
    finally:
        channel.close()


def _acknowledged(channel: paramiko.Channel) -> None:
    answer = channel.recv(1)
    if answer == b"\0":
        return
    reason = bytearray()
    while answer and not reason.endswith(b"\n"):
        more = channel.recv(1)
        if not more:
            break
        reason += more
    raise UploadFailed(reason.decode(errors="replace").strip() or "the connection was closed")
