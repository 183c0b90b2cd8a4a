"""Programs that serve the harness while it runs, and must not outlive it, however it ends."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import IO

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


def end(process: subprocess.Popen[bytes], deadline: float = _STOP_DEADLINE) -> None:
    """End a program, by force when it does not go within ``deadline`` seconds."""
    process.terminate()
    try:
        process.wait(deadline)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
