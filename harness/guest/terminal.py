"""A person's terminal in a VM: on its serial line, bytes both ways until Ctrl-], or in a shell by way of SSH."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle import programs
from bundle.errors import InfrastructureError

LEAVE = b"\x1d"  # Ctrl-], as telnet and virsh have it
# The person's known_hosts and agent are left alone: VMs come and go on the same ports.
_SSH_OPTIONS = (
    "UserKnownHostsFile=/dev/null",
    "StrictHostKeyChecking=no",
    "LogLevel=ERROR",
    "IdentitiesOnly=yes",
)


def ssh_command(port: int, key: Path) -> list[str]:
    """Return the command that opens a shell in the VM whose sshd is at a loopback port; ``key`` logs in."""
    options = [word for option in _SSH_OPTIONS for word in ("-o", option)]
    return ["ssh", "-p", str(port), "-i", str(key), *options, "root@127.0.0.1"]


def require_ssh() -> None:
    """Make sure that a shell can be opened.

    Raises:
        InfrastructureError: the program for it is not there.
    """
    programs.require("ssh")


def attach(path: Path) -> None:
    """Connect standard input and output to the UNIX socket of a serial line.

    Raises:
        InfrastructureError: nobody listens there.
    """
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(path))
        except OSError as error:
            raise InfrastructureError(f"cannot attach to the console at {path}: {error.strerror}") from None
        with _raw(sys.stdin.fileno()):
            _copy(line, sys.stdin.fileno(), sys.stdout.fileno())


def _copy(line: socket.socket, source: int, sink: int) -> None:
    readers: list[socket.socket | int] = [line, source]
    while True:
        ready, _, _ = select.select(readers, [], [])
        if line in ready:
            said = line.recv(1 << 16)
            if not said:
                return
            os.write(sink, said)
        if source in ready:
            typed = os.read(source, 1 << 10)
            if LEAVE in typed:
                return
            if not typed:
                readers.remove(source)
            line.sendall(typed)


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Put a terminal into raw mode for a while; anything else is left as it is."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
