"""Programs beside the harness end with it, and when they are told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.errors import InfrastructureError
from harness import children, wait

# Ignores the request to end, and says when it does so.
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
# Starts a program, tells its id, and waits to be killed.
PARENT = """
import sys, time
from harness import children
print(children.start(["sleep", "60"]).pid, flush=True)
time.sleep(60)
"""


def is_sleep(pid: int) -> bool:
    """Say whether a process is the started program, and no longer the helper that becomes it."""
    return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_program_is_asked_to_end() -> None:
    process = children.start(["sleep", "60"])
    children.end(process)
    assert process.returncode == -signal.SIGTERM


def test_a_program_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = children.start([sys.executable, "-c", STUBBORN], log)
    wait.until((tmp_path / "log").read_text, "the program to be deaf", 10)
    children.end(process, deadline=0.1)
    assert process.returncode == -signal.SIGKILL


def test_what_has_ended_already_may_be_ended() -> None:
    process = children.start(["true"])
    assert process.wait(10) == 0
    children.end(process)
    assert process.returncode == 0


def test_a_program_goes_when_the_harness_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    # The leash is on once the program itself runs.
    wait.until(lambda: is_sleep(child), "the program to run", 10)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait.until(lambda: has_ended(child), "the program to end", 10)


def test_a_program_that_ends_before_it_listens_is_named_with_its_log(tmp_path: Path) -> None:
    process = children.start(["false"])
    with pytest.raises(InfrastructureError, match=r"the server has ended; its log is .*/log"):
        children.wait_listening(process, 1, "the server", tmp_path / "log")


def test_a_program_that_does_not_listen_is_waited_for_in_vain(tmp_path: Path) -> None:
    process = children.start(["sleep", "60"])
    with pytest.raises(wait.DeadlineExceeded, match="the server to listen"):
        children.wait_listening(process, 1, "the server", tmp_path / "log", deadline=0.1)
    children.end(process)
