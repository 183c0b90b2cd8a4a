"""Loopback ports that are free and stay ours: probed by binding, reserved across processes by locks."""

from __future__ import annotations

import os
import secrets
import socket

from bundle.errors import InfrastructureError
from harness import locks
from harness.rundir import state_root

# Below the kernel's default range for outgoing connections (32768 up), so no client socket takes one meanwhile.
FIRST, LAST = 20000, 32000


class Ports:
    """A handful of reserved ports; ``release`` gives them back."""

    def __init__(self) -> None:
        """Start with none."""
        self._locks: dict[int, int] = {}

    def take(self) -> int:
        """Return a port that is free for TCP and UDP on loopback.

        Raises:
            InfrastructureError: none is left.
        """
        folder = state_root() / "ports"
        first = secrets.randbelow(LAST - FIRST)
        for offset in range(LAST - FIRST):
            port = FIRST + (first + offset) % (LAST - FIRST)
            handle = locks.try_exclusive(folder / str(port))
            if handle is None:
                continue
            if _is_free(port):
                self._locks[port] = handle
                return port
            os.close(handle)
        raise InfrastructureError(f"no free port from {FIRST} to {LAST} on 127.0.0.1")

    def release(self) -> None:
        """Give all ports back."""
        for port, handle in self._locks.items():
            (state_root() / "ports" / str(port)).unlink(missing_ok=True)
            os.close(handle)
        self._locks.clear()


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
