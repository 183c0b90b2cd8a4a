"""Carries bytes between its standard input, a socket, and a port on loopback, until both sides have ended.

QEMU's user-mode network starts one for each connection of a guest: see :mod:`harness.site.relay`. Nothing but the
standard library is imported, for each connection waits for this program's start.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys


def carry(inside: socket.socket, outside: socket.socket) -> None:
    """Copy both ways; the end of one direction is passed on, the other one may go on."""
    other = {inside: outside, outside: inside}
    while other:
        for ready in select.select(list(other), [], [])[0]:
            if data := ready.recv(65536):
                other[ready].sendall(data)
            else:
                other.pop(ready).shutdown(socket.SHUT_WR)


def main() -> None:
    """Connect standard input with the port that the first argument names."""
    with contextlib.suppress(OSError):  # a side that breaks ends the connection: the other one sees that
        carry(socket.socket(fileno=0), socket.create_connection(("127.0.0.1", int(sys.argv[1]))))


if __name__ == "__main__":
    main()
