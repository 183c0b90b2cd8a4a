"""Programs beside the harness end with it, and when they are told to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.errors import InfrastructureError
from harness.host import ports, servers, wait

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
from harness.host import servers
print(servers.start(["sleep", "60"]).pid, flush=True)
time.sleep(60)
"""

# Serves the port that is its argument.
SERVER = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        server.accept()
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))


def listening(port: int) -> list[str]:
    """Return the command of a server."""
    return [sys.executable, "-c", SERVER, str(port)]


def is_sleep(pid: int) -> bool:
    """Say whether a process is the started program, and no longer the helper that becomes it."""
    return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_program_is_asked_to_end() -> None:
    process = servers.start(["sleep", "60"])
    servers.end(process)
    assert process.returncode == -signal.SIGTERM


def test_a_program_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = servers.start([sys.executable, "-c", STUBBORN], log)
    wait.until((tmp_path / "log").read_text, "the program to be deaf", 10)
    servers.end(process, deadline=0.1)
    assert process.returncode == -signal.SIGKILL


def test_what_has_ended_already_may_be_ended() -> None:
    process = servers.start(["true"])
    assert process.wait(10) == 0
    servers.end(process)
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


def test_a_server_is_there_on_its_port_and_ends_with_the_block(tmp_path: Path) -> None:
    with servers.serve("the server", listening, tmp_path / "log") as port:
        socket.create_connection(("127.0.0.1", port)).close()
        assert port in ports.reserved()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert port not in ports.reserved()


def test_a_server_ends_with_the_block_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), servers.serve("the server", listening, tmp_path / "log") as port:
        raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_server_that_ends_before_it_listens_is_named_with_its_log(tmp_path: Path) -> None:
    server = servers.serve("the server", lambda _port: ["sh", "-c", "echo no luck"], tmp_path / "log")
    with pytest.raises(InfrastructureError, match=r"the server has ended; its log is .*/log"), server:
        pytest.fail("it does not listen")
    assert (tmp_path / "log").read_text() == "no luck\n"


def test_a_server_that_does_not_listen_is_waited_for_in_vain_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = servers.start(["sleep", "60"])
    monkeypatch.setattr(servers, "start", lambda _command, _log: process)
    server = servers.serve("the server", listening, tmp_path / "log", deadline=0.1)
    with pytest.raises(wait.DeadlineExceeded, match="the server to listen"), server:
        pytest.fail("it does not listen")
    assert process.returncode == -signal.SIGTERM
