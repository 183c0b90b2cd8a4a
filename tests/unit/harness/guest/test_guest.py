"""What a guest is waited for: its commands run on this machine's bash, tests/e2e has them on a real VM."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from harness.guest.connection import CommandDeadline, GuestLockedUp, GuestStopped
from harness.guest.guest import SshGuest, UnitFailed
from harness.host import wait
from tests.serving import listening


@pytest.fixture
def guest(local_guest, monkeypatch: pytest.MonkeyPatch) -> SshGuest:
    made = SshGuest("r-1-VM", "127.0.0.1", 1, Path("no-key"))
    monkeypatch.setattr(made, "run", local_guest.run)
    return made


class SilentChannel:
    """A channel of a command that says nothing and does not end."""

    eof_received = closed = False

    def __init__(self) -> None:
        self._ends = os.pipe()

    def fileno(self) -> int:
        return self._ends[0]

    def recv_ready(self) -> bool:
        return False

    recv_stderr_ready = recv_ready

    def close(self) -> None:
        for end in self._ends:
            os.close(end)


def test_a_guest_that_its_host_has_stopped_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = SshGuest("r-1-VM", "127.0.0.1", 1, Path("no-key"))
    monkeypatch.setattr(guest, "channel", lambda *_: SilentChannel())
    began = time.monotonic()
    guest.stopped_by = lambda: "its disk is full" if time.monotonic() - began > 0.5 else ""
    with pytest.raises(GuestStopped, match="r-1-VM: its disk is full"):
        guest.run("patch", deadline=60)
    assert time.monotonic() - began < 5
    with pytest.raises(GuestStopped):  # and what comes next does not even begin
        SshGuest.channel(guest, "look", 60)


def test_a_guest_whose_kernel_stands_still_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = SshGuest("r-1-VM", "127.0.0.1", 1, Path("no-key"))
    monkeypatch.setattr(guest, "channel", lambda *_: SilentChannel())
    guest.stopped_by, guest.locked_up = (lambda: ""), (lambda: "its kernel has stood still for 97 s")
    with pytest.raises(GuestLockedUp, match="r-1-VM: its kernel has stood still for 97 s") as refused:
        guest.run("patch", deadline=60)
    assert refused.value.once_more


def test_a_silent_guest_that_runs_has_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = SshGuest("r-1-VM", "127.0.0.1", 1, Path("no-key"))
    monkeypatch.setattr(guest, "channel", lambda *_: SilentChannel())
    guest.stopped_by = lambda: ""
    with pytest.raises(CommandDeadline):
        guest.run("patch", deadline=1.2)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for systemctl and journalctl: they print the files of this folder that are called like them."""
    for name in ("systemctl", "journalctl"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/{name}.asked\ncat {tmp_path}/{name}\n')
        program.chmod(0o755)
        (tmp_path / name).touch()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path


def test_a_port_that_something_listens_on_is_found(guest: SshGuest) -> None:
    with listening(socket.socket.close) as port:
        guest.wait_for_port(port, deadline=5)


def test_a_port_that_nobody_listens_on_is_named_when_the_deadline_is_over(guest: SshGuest) -> None:
    with listening(socket.socket.close) as port:
        pass
    with pytest.raises(
        wait.DeadlineExceeded, match=rf"r-1-VM: port {port} on 127\.0\.0\.1 to answer: not within"
    ):
        guest.wait_for_port(port, deadline=0.1)


def test_a_port_is_looked_for_on_the_address_that_was_named(guest: SshGuest) -> None:
    with (
        listening(socket.socket.close) as port,
        pytest.raises(wait.DeadlineExceeded, match=r"on 127\.0\.0\.2"),
    ):
        guest.wait_for_port(port, "127.0.0.2", deadline=0.1)


def test_an_active_unit_ends_the_wait(guest: SshGuest, systemd: Path) -> None:
    (systemd / "systemctl").write_text("active\n")
    guest.wait_for_unit("haproxy", deadline=1)
    assert (systemd / "systemctl.asked").read_text() == "is-active haproxy\n"


def test_a_unit_that_still_starts_is_waited_for_in_vain(guest: SshGuest, systemd: Path) -> None:
    (systemd / "systemctl").write_text("activating\n")
    with pytest.raises(wait.DeadlineExceeded, match="r-1-VM: unit haproxy to be active: not within"):
        guest.wait_for_unit("haproxy", deadline=0.1)


@pytest.mark.parametrize(
    ("journal", "why"),
    [
        ("no luck\nFailed with result 'exit-code'.\n", "no luck; Failed with result 'exit-code'."),
        ("one\ntwo\nthree\nfour\n", "two; three; four"),
        ("", "its journal is empty"),
    ],
)
def test_a_failed_unit_ends_the_wait_with_what_it_said_last(
    guest: SshGuest, systemd: Path, journal: str, why: str
) -> None:
    (systemd / "systemctl").write_text("failed\n")
    (systemd / "journalctl").write_text(journal)
    with pytest.raises(UnitFailed) as failure:
        guest.wait_for_unit("haproxy", deadline=60)
    assert str(failure.value) == f"r-1-VM: unit haproxy has failed: {why}"
    assert (systemd / "journalctl.asked").read_text().startswith("-u haproxy ")


def test_a_busy_guest_may_take_all_the_time_that_is_left_to_look_for_a_file(guest, monkeypatch) -> None:
    """A guest that forked slowly took 70 s for 300 looks, and a boot with 1,113 s of patience was given up."""
    given = []
    run = guest.run
    monkeypatch.setattr(guest, "run", lambda *a, **k: given.append(k["deadline"]) or run(*a, **k))
    guest.wait_for_file("/proc/self", deadline=1000.0)
    assert len(given) == 1
    assert 990 < given[0] < 1020
