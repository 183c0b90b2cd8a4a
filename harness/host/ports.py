"""Loopback ports that are free and stay ours: probed by binding, reserved by names that the kernel gives only once."""

from __future__ import annotations

import re
import secrets
import socket
from pathlib import Path

from bundle.errors import InfrastructureError

# Below the kernel's default range for outgoing connections (32768 up), so no client socket takes one meanwhile.
FIRST, LAST = 20000, 32000
# Abstract names of sockets are of the network namespace that the ports are of, whatever state folder a process has, and
# gone with whoever holds them.
_NAME = "sysvm-livepatch-port-"


class PortReservations:
    """A handful of reserved ports; ``release`` gives them back."""

    def __init__(self) -> None:
        """Start with none."""
        self._held: dict[int, socket.socket] = {}

    def take(self) -> int:
        """Return a port that is free for TCP and UDP on loopback.

        Raises:
            InfrastructureError: none is left.
        """
        first = secrets.randbelow(LAST - FIRST)
        for offset in range(LAST - FIRST):
            port = FIRST + (first + offset) % (LAST - FIRST)
            held = _hold(port)
            if held is None:
                continue
            if _is_free(port):
                self._held[port] = held
                return port
            held.close()
        raise InfrastructureError(f"no free port from {FIRST} to {LAST} on 127.0.0.1")

    def release(self) -> None:
        """Give all ports back."""
        for held in self._held.values():
            held.close()
        self._held.clear()


def reserved() -> frozenset[int]:
    """Return the ports that this process, or any other, has reserved."""
    names = re.findall(rf" @{_NAME}(\d+)$", Path("/proc/net/unix").read_text(), re.MULTILINE)
    return frozenset(map(int, names))


def _hold(port: int) -> socket.socket | None:
    """Return what holds a port, or None when somebody has it."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0{_NAME}{port}")
    except OSError:
        held.close()
        return None
    return held


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
