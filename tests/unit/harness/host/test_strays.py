"""Emulators that nobody knows are ended by their guest's name; nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.host import strays

# What the same tests have started that run beside, on another checkout, is not theirs.
RUN = f"sysvm-t{os.getpid()}"


@pytest.fixture
def start(tmp_path):
    """Start what looks like an emulator in the list of processes."""
    program = tmp_path / "qemu-system-x86_64"
    program.symlink_to("/usr/bin/tail")
    started = []

    def run(*arguments):
        process = subprocess.Popen(
            [program, "-f", "/dev/null", *arguments], stderr=subprocess.DEVNULL, executable="/usr/bin/tail"
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def emulator(start, guest):
    # tail takes the last two for files that are not there, and follows the first one.
    return start("--", "-name", f"guest={guest},debug-threads=on")


def test_only_guests_of_the_run_are_ended(start):
    lost = emulator(start, f"{RUN}-router")
    others = [emulator(start, f"{RUN}0-router"), emulator(start, "mine")]
    assert strays.end(f"{RUN}-") == [f"{RUN}-router"]
    assert lost.wait(5) == -signal.SIGKILL
    assert [process.poll() for process in others] == [None, None]


def test_a_process_that_is_no_emulator_is_left_alone():
    waits = [sys.executable, "-c", "input()", "-name", f"guest={RUN}-router"]
    with subprocess.Popen(waits, stdin=subprocess.PIPE) as process:
        assert strays.end(f"{RUN}-") == []
        assert process.poll() is None
        process.communicate(b"\n")
    assert process.returncode == 0


def test_a_process_that_has_ended_is_nobody(tmp_path):
    assert strays.guest_of(Path(tmp_path)) == ""


def test_control_groups_of_the_run_go_and_those_with_a_process_in_them_or_of_others_stay(tmp_path):
    for controller in (tmp_path, tmp_path / "cpu"):
        for name in ("qemu-1-sysvm-ab12-router", "qemu-2-sysvm-ab123-router", "qemu-3-mine"):
            (controller / "machine" / f"{name}.libvirt-qemu" / "emulator").mkdir(parents=True)
    busy = tmp_path / "cpu/machine/qemu-4-sysvm-ab12-spare.libvirt-qemu/vcpu0"
    busy.mkdir(parents=True)
    (busy / "held").touch()
    strays.remove_groups("sysvm-ab12-", tmp_path)
    others = {"qemu-2-sysvm-ab123-router.libvirt-qemu", "qemu-3-mine.libvirt-qemu"}
    assert {path.name for path in (tmp_path / "machine").iterdir()} == others
    assert {path.name for path in (tmp_path / "cpu/machine").iterdir()} == {*others, busy.parent.name}
