"""Slots: what one process holds another waits for, and nobody gets half of what it needs."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from bundle.errors import InfrastructureError
from harness.host import slots


@pytest.fixture(autouse=True)
def small_host(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path))
    monkeypatch.setenv("SYSVM_SLOTS", "256,4")


def test_a_host_is_shared_until_it_is_full():
    first = slots.reserve(slots.Need(128, 2), "a")
    second = slots.reserve(slots.Need(128, 2), "b")
    with pytest.raises(InfrastructureError, match=r"c: no room for it within 0 s"):
        slots.reserve(slots.Need(64, 1), "c", deadline=0)
    first.release()
    slots.reserve(slots.Need(64, 1), "c", deadline=0).release()
    second.release()


def test_what_the_host_can_never_hold_is_refused_at_once():
    with pytest.raises(
        InfrastructureError, match=r"huge needs 512 MiB and 1 vCPUs, more than this host can give"
    ):
        slots.reserve(slots.Need(512, 1), "huge")


def test_waiting_is_said_once_and_ends_when_room_is_there(capsys):
    held = slots.reserve(slots.Need(256, 4), "a")
    threading.Timer(0.4, held.release).start()
    slots.reserve(slots.Need(64, 1), "b", deadline=10).release()
    assert capsys.readouterr().err == "b: waiting for 64 MiB and 1 vCPUs that other machines hold\n"


def test_a_vain_try_holds_nothing():
    held = slots.reserve(slots.Need(64, 4), "a")
    with pytest.raises(InfrastructureError):
        slots.reserve(slots.Need(64, 1), "b", deadline=0)
    held.release()
    slots.reserve(slots.Need(256, 4), "c", deadline=0).release()


def test_the_slots_of_a_killed_process_are_free():
    code = "import time; from harness.host import slots\nr = slots.reserve(slots.Need(256, 4), 'x')\n"
    code += "print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InfrastructureError, match="no room"):
        slots.reserve(slots.Need(64, 1), "b", deadline=0)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    slots.reserve(slots.Need(256, 4), "b", deadline=0).release()


def test_a_meaningless_override_is_refused(monkeypatch):
    monkeypatch.setenv("SYSVM_SLOTS", "lots")
    with pytest.raises(InfrastructureError, match=r"invalid SYSVM_SLOTS 'lots' \(expected MIB,VCPUS\)"):
        slots.capacity()
