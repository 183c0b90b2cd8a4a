"""Programs that serve the harness while it runs, and must not outlive it, however it ends."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bundle import programs
from bundle.errors import InfrastructureError
from harness.host import wait
from harness.host.ports import PortReservations

_START_DEADLINE = 20.0
_STOP_DEADLINE = 10.0


def start(command: Sequence[str], log: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start a program on a leash: the kernel ends it when the thread that started it does.

    Args:
        command: program and arguments.
        log: takes what it says; nothing does without it.

    Raises:
        InfrastructureError: it is not installed.
    """
    output = subprocess.DEVNULL if log is None else log
    programs.require(command[0])
    with programs.starting("setpriv", f"start {command[0]}"):
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Keep a program running; what it says goes to a log that is begun anew."""
    with log.open("wb") as output:
        process = start(command, output)
    try:
        yield process
    finally:
        end(process)


@contextmanager
def serve(
    name: str, command: Callable[[int], Sequence[str]], log: Path, deadline: float = _START_DEADLINE
) -> Iterator[int]:
    """Keep a server running; yields its port of TCP on 127.0.0.1, once it takes connections.

    Args:
        name: of the program, for people.
        command: returns program and arguments, for a port.
        log: file for what it says.
        deadline: seconds until it must listen.

    Raises:
        InfrastructureError: it has ended, or does not listen in time.
    """
    ports = PortReservations()
    try:
        port = ports.take()
        with running(command(port), log) as process:
            wait.until(lambda: _listens(process, port, name, log), f"{name} to listen (log: {log})", deadline)
            yield port
    finally:
        ports.release()


def _listens(process: subprocess.Popen[bytes], port: int, name: str, log: Path) -> bool:
    if process.poll() is not None:
        raise InfrastructureError(f"{name} has ended; its log is {log}")
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[bytes], deadline: float = _STOP_DEADLINE) -> None:
    """End a program, by force when it does not go within ``deadline`` seconds."""
    process.terminate()
    try:
        process.wait(deadline)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
