"""Programs that serve the harness while it runs, and must not outlive it, however it ends."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from bundle.errors import InfrastructureError
from harness import wait

_START_DEADLINE = 20.0
_STOP_DEADLINE = 10.0


def start(command: Sequence[str], log: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start a program on a leash: the kernel ends it when the thread that started it does.

    Args:
        command: program and arguments.
        log: takes what it says; nothing does without it.
    """
    output = subprocess.DEVNULL if log is None else log
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *command],
        stdin=subprocess.DEVNULL, stdout=output, stderr=output,
    )  # fmt: skip


def wait_listening(
    process: subprocess.Popen[bytes], port: int, name: str, log: Path, deadline: float = _START_DEADLINE
) -> None:
    """Wait until a program takes connections on a port of loopback.

    Args:
        process: the program.
        port: of TCP on 127.0.0.1.
        name: of the program, for people.
        log: where it says what is wrong.
        deadline: seconds.

    Raises:
        InfrastructureError: it has ended, or does not listen in time.
    """

    def listens() -> bool:
        if process.poll() is not None:
            raise InfrastructureError(f"{name} has ended; its log is {log}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait.until(listens, f"{name} to listen (log: {log})", deadline)


def end(process: subprocess.Popen[bytes], deadline: float = _STOP_DEADLINE) -> None:
    """End a program, by force when it does not go within ``deadline`` seconds."""
    process.terminate()
    try:
        process.wait(deadline)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
