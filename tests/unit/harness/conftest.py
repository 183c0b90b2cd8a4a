"""Fixtures of the harness's unit tests."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Done:
    status: int
    stdout: str
    stderr: str
    seconds: float


class LocalGuest:
    """Runs a guest's commands with this machine's bash, so that real programs answer; no VM is involved."""

    name = "local"

    def run(self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True) -> Done:
        start = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", command], input=stdin, capture_output=True, timeout=deadline, check=check
        )
        return Done(
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
            time.monotonic() - start,
        )

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        Path(path).write_bytes(data)
        Path(path).chmod(mode)


@pytest.fixture
def local_guest() -> LocalGuest:
    return LocalGuest()
