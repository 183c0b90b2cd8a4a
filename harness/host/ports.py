"""Loopback ports that are free and stay ours: probed by binding, reserved across processes by locks."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

from bundle.errors import InfrastructureError
from harness.host import locks
from harness.host.runtime import state_root

# Below the kernel's default range for outgoing connections (32768 up), so no client socket takes one meanwhile.
FIRST, LAST = 20000, 32000


class PortReservations:
    """A handful of reserved ports; ``release`` gives them back."""

    def __init__(self) -> None:
        """Start with none."""
        self._locks: dict[int, int] = {}

    def take(self) -> int:
        """Return a port that is free for TCP and UDP on loopback.

        Raises:
            InfrastructureError: none is left.
        """
        first = secrets.randbelow(LAST - FIRST)
        for offset in range(LAST - FIRST):
            port = FIRST + (first + offset) % (LAST - FIRST)
            handle = locks.try_exclusive(_lock(port))
            if handle is None:
                continue
            if _is_free(port):
                self._locks[port] = handle
                return port
            _unlock(port, handle)
        raise InfrastructureError(f"no free port from {FIRST} to {LAST} on 127.0.0.1")

    def release(self) -> None:
        """Give all ports back."""
        for port, handle in self._locks.items():
            _unlock(port, handle)
        self._locks.clear()


def _lock(port: int) -> Path:
    return state_root() / "ports" / str(port)


def _unlock(port: int, handle: int) -> None:
    """Give a port back: no file of it stays, whoever has the port itself."""
    _lock(port).unlink(missing_ok=True)
    os.close(handle)


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
