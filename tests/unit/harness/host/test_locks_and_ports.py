"""What holds resources between processes: locks that die with their holder, ports, run folders, deadlines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from harness.host import locks, ports, runtime, wait


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def test_a_lock_that_is_held_is_not_given_twice(tmp_path):
    held = locks.try_exclusive(tmp_path / "lock")
    assert locks.try_exclusive(tmp_path / "lock") is None
    os.close(held)
    again = locks.try_exclusive(tmp_path / "lock")
    assert again is not None
    os.close(again)


def test_a_lock_file_that_was_removed_while_waited_for_is_made_again(tmp_path):
    path = tmp_path / "lock"
    held = locks.try_exclusive(path)
    path.unlink()
    fresh = locks.try_exclusive(path)
    assert fresh is not None
    assert os.fstat(fresh).st_ino == path.stat().st_ino
    os.close(held)
    os.close(fresh)


def test_a_shared_lock_becomes_exclusive_only_for_the_last_user(tmp_path):
    first, second = locks.shared(tmp_path / "users"), locks.shared(tmp_path / "users")
    assert not locks.upgrade(first)
    os.close(second)
    assert locks.upgrade(first)
    os.close(first)


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "lock"
    code = "import sys, time; from pathlib import Path; from harness.host import locks\n"
    code += "locks.try_exclusive(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert locks.try_exclusive(path) is None
    holder.kill()
    holder.wait()
    holder.stdout.close()
    free = locks.try_exclusive(path)
    assert free is not None
    os.close(free)


def test_ports_are_free_distinct_and_given_back():
    taken = ports.PortReservations()
    numbers = {taken.take() for _ in range(5)}
    assert len(numbers) == 5
    assert numbers <= ports.reserved()
    taken.release()
    assert not numbers & ports.reserved()


def test_a_port_is_given_once_whatever_state_folders_there_are(monkeypatch, tmp_path):
    taken = ports.PortReservations()
    port = taken.take()
    monkeypatch.setattr(ports, "FIRST", port)
    monkeypatch.setattr(ports, "LAST", port + 1)
    code = (
        "from harness.host import ports; import sys; ports.FIRST = int(sys.argv[1]); ports.LAST = ports.FIRST + 1; "
        "print(ports.PortReservations().take())"
    )
    other = {**os.environ, "SYSVM_STATE": str(tmp_path / "other")}
    run = [sys.executable, "-c", code, str(port)]
    told = subprocess.run(run, env=other, capture_output=True, text=True, check=False)
    assert f"no free port from {port}" in told.stderr
    taken.release()
    assert subprocess.run(run, env=other, capture_output=True, text=True, check=True).stdout == f"{port}\n"


def test_a_port_that_something_listens_on_is_not_taken_and_not_held(monkeypatch):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        busy = listener.getsockname()[1]
        monkeypatch.setattr(ports, "FIRST", busy)
        monkeypatch.setattr(ports, "LAST", busy + 1)
        with pytest.raises(Exception, match=f"no free port from {busy}"):
            ports.PortReservations().take()
    assert busy not in ports.reserved()


def test_a_run_folder_goes_with_its_run_and_stays_when_it_is_kept():
    with runtime.open_run() as gone:
        assert gone.path.is_dir()
        assert list(runtime.abandoned()) == []
    with runtime.open_run() as stays:
        runtime.keep(stays.path, {"name": "a"})
    assert not gone.path.exists()
    assert runtime.kept(stays.path)
    assert list(runtime.abandoned()) == []


def test_the_folder_of_a_dead_run_is_found_once_it_is_free():
    (runtime.runs_folder() / "abc123").mkdir(parents=True)
    assert [run.id for run in runtime.abandoned()] == ["abc123"]


def test_a_deadline_says_what_was_awaited_and_what_was_seen_last():
    seen = iter([0, "", None])
    with pytest.raises(wait.DeadlineExceeded, match=r"the tide: not within 0 s \(last seen: 0\)"):
        wait.until(lambda: next(seen), "the tide", 0)


def test_a_deadline_is_later_where_the_host_stretches_everything():
    times = iter([1000.0, 1000.0])
    seen = iter([0, 0, 0])
    with pytest.raises(wait.DeadlineExceeded, match=r"the tide: not within 0.0015 s \(last seen: 0\)"):
        wait.until(lambda: next(seen), "the tide", 0.001, tick=0.01, stretch=lambda: next(times, 1.5))
    assert list(seen) == []


def test_waiting_returns_the_first_true_value():
    seen = iter([0, 0, "there"])
    assert wait.until(lambda: next(seen), "it", 5, tick=0.001) == "there"
