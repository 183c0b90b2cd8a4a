"""The VM engine under hardship: killed at any moment, started again and again, on a full disk.

``SYSVM_KILLS`` is how many commands are killed (3), ``SYSVM_SEED`` chooses the moments, ``SYSVM_LOOPS`` is how often a
VM is started and stopped (3).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from harness.host import runtime, wait
from harness.host.cache import cache_root
from tests.processes import command_lines

KILLS = int(os.environ.get("SYSVM_KILLS", "3"))
LOOPS = int(os.environ.get("SYSVM_LOOPS", "3"))
SEED = int(os.environ.get("SYSVM_SEED", "1"))
# A start takes some three seconds, a small run some twenty: any of their moments may be hit.
VICTIMS = [
    (("vm", "start", "--name", "victim"), 4.0),
    (("run", "--scenario", "live-patch", "--workers", "2"), 20.0),
]

NEXT = [("vm", "list"), ("cache", "list"), ("image", "list"), ("scenarios",), ("checks",)]


def members(session: int) -> list[int]:
    """Return the processes of a session, daemons of libvirt not among them: they have one of their own."""
    found = []
    for folder, _ in command_lines():
        try:
            state, _parent, _group, leader = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            # The others of a dead thread may still be dying, and hold the locks meanwhile.
            gone = state == "Z" and len(list((folder / "task").iterdir())) <= 1
        except OSError:
            continue
        if int(leader) == session and not gone:
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize("number", range(KILLS))
def test_engine_leaves_nothing_when_something_is_killed_at_any_moment(number, tmp_path, nothing_left, sysvm):
    chance = random.Random(f"{SEED}-{number}")
    arguments, seconds = VICTIMS[number % len(VICTIMS)]
    command = [sys.executable, "-c", "from harness.cli import main; main()", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **quiet)
    time.sleep(chance.uniform(0.1, seconds))  # the moment is the test's input, nothing is awaited
    # The command itself or one of its workers goes first, the others find it gone for a moment.
    for pid in chance.sample(there := members(process.pid), k=min(1, len(there))):
        os.kill(pid, signal.SIGKILL)
    for pid in members(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    wait.until(lambda: not members(process.pid), "all processes of the command to be gone", 10.0)
    # Whatever a person calls next clears up.
    assert sysvm(*chance.choice(NEXT)).returncode == 0
    assert not list((runtime.state_root() / "slots").glob("*.new"))
    sysvm("vm", "stop", "victim")  # the start may have been done before the kill


def test_engine_leaves_the_host_as_it_was_after_many_starts(sysvm, nothing_left):
    for number in range(LOOPS):
        started = sysvm("vm", "start", "--name", f"loop{number}")
        assert started.returncode == 0, started.stderr
        try:
            assert sysvm("vm", "exec", f"loop{number}", "true").returncode == 0
        finally:
            assert sysvm("vm", "stop", f"loop{number}").returncode == 0


def test_engine_says_that_a_host_can_never_hold_a_vm(sysvm, nothing_left):
    ended = sysvm("vm", "start", "--name", "slots", environment={"SYSVM_SLOTS": "64,1"})
    assert ended.returncode == 3
    assert "more than this host can give" in ended.stderr.strip().splitlines()[-1]


@pytest.fixture
def small_cache(tmp_path):
    """A cache whose images are the real ones, and that has next to no room for anything else."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "cache"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0755", "tmpfs", folder], check=True)
    try:
        for name in ("images", "bases", "bundle", "accel", "locks"):
            (folder / name).symlink_to(cache_root() / name)
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_engine_says_at_once_that_the_disk_cannot_hold_a_snapshot(sysvm, small_cache, nothing_left):
    ended = sysvm("vm", "start", "--name", "full", environment={"SYSVM_CACHE": str(small_cache)})
    assert ended.returncode == 3
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("sysvm: a golden snapshot needs ")
    assert "MiB free" in last
    assert "Traceback" not in ended.stderr
    assert [path.name for path in (small_cache / "golden").glob("*/")] == []
    assert list((small_cache / "work").glob("*/*")) == []


def test_engine_says_in_one_line_that_the_disk_is_full(lab, sysvm, small_cache, nothing_left):
    (small_cache / "golden").symlink_to(cache_root() / "golden")
    with (small_cache / "filler").open("wb") as filler, pytest.raises(OSError, match="No space left"):
        while True:
            filler.write(bytes(1 << 16))
            filler.flush()
    ended = sysvm("vm", "start", "--name", "full", environment={"SYSVM_CACHE": str(small_cache)})
    assert ended.returncode == 3
    assert "o space" in ended.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert list((small_cache / "work").glob("*/*")) == []


@pytest.fixture
def cache_of_other_host(other_host):
    """A folder that QEMU's user can reach, as it cannot reach those below tmp_path."""
    folder = other_host.state.with_name(f"{other_host.state.name}-cache")
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_engine_says_why_and_emulates_where_kvm_opens_and_is_of_no_use(lab, other_host, cache_of_other_host):
    cache = cache_of_other_host
    for name in ("images", "bases", "bundle", "golden"):  # all but the answers of earlier probes
        (cache / name).symlink_to(cache_root() / name)
    other_host.environment["SYSVM_CACHE"] = str(cache)
    other_host.put_in_place("/dev/null", "/dev/kvm")
    status, output, errors = other_host.sysvm("vm", "start", "--name", "emulated")
    assert status == 0, errors
    try:
        assert "using TCG (software emulation): /dev/kvm opens, but no guest gets through" in output + errors
        assert "kvm: QEMU ended with status 1;" in output + errors
        assert other_host.sysvm("vm", "exec", "emulated", "echo there") == (0, "there\n", "")
    finally:
        status, _, errors = other_host.sysvm("vm", "stop", "emulated")
    assert (status, errors) == (0, "")
