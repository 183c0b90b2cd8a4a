"""Peaks: what machines took of their own is measured, kept, and reserved the next time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bundle.errors import InfrastructureError
from harness.host import peaks, slots
from harness.vm.engine import RESTORED_SHARE, Engine
from harness.vm.system import SystemVm
from harness.vm.tenant.tenant import MEMORY_MIB


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))


def process(proc, pid, guest, anonymous, shared=0, swapped=0, file=900_000):
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    name = ["-name", f"guest={guest},debug-threads=on"] if guest else []
    (folder / "cmdline").write_text("\0".join(["/usr/bin/qemu-system-x86_64", *name, "-S", ""]))
    (folder / "status").write_text(
        f"Name:\tqemu\nVmHWM:\t999999 kB\nRssAnon:\t{anonymous} kB\nRssFile:\t{file} kB\n"
        f"RssShmem:\t{shared} kB\nVmSwap:\t{swapped} kB\n"
    )


def test_what_a_machine_shares_with_others_is_not_its_own(tmp_path):
    process(tmp_path, 7, "sysvm-a-S01", 100 << 10, shared=20 << 10, swapped=5 << 10)
    process(tmp_path, 8, "sysvm-a-S01-tenants", 30 << 10)
    process(tmp_path, 9, "sysvm-b-S01", 700 << 10)
    (tmp_path / "self").mkdir()
    assert peaks.memory_of(["sysvm-a-S01", "sysvm-a-S01-tenants", "gone"], tmp_path) == 155


def test_a_process_that_ends_while_it_is_looked_at_counts_as_nothing(tmp_path):
    process(tmp_path, 7, "sysvm-a-S01", 100 << 10)
    (tmp_path / "7" / "status").unlink()
    assert peaks.memory_of(["sysvm-a-S01"], tmp_path) == 0


def test_the_own_memory_of_a_process_that_runs_is_seen():
    code = "import sys; block = b'x' * (64 << 20); print('filled', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        ["qemu-system-pretended", "-c", code, "-name", "guest=sysvm-here-1"],
        executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as running:  # fmt: skip
        running.stdout.readline()
        assert 64 <= peaks.memory_of(["sysvm-here-1"]) < 128
        running.stdin.close()


def test_the_largest_of_late_is_known_and_a_smaller_one_is_followed_after_a_while():
    assert peaks.known(("router", 512)) is None
    for mib in (300, 551, 40, 0):
        peaks.note(("router", 512), mib)
    assert peaks.known(("router", 512)) == 551
    assert peaks.known(("router", 256)) is None
    for _ in range(peaks.KEPT):
        peaks.note(("router", 512), 200)
    assert peaks.known(("router", 512)) == 200


def test_damaged_notes_are_measured_anew(tmp_path):
    peaks.note("router", 300)
    (note,) = (tmp_path / "cache" / "peaks").glob("*.json")
    for text in ("{", "[]", '{"mib": 7}', '{"mib": ["x"]}'):
        note.write_text(text)
        assert peaks.known("router") is None
    peaks.note("router", 310)
    assert peaks.known("router") == 310


def test_a_cache_that_cannot_be_written_keeps_none(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "peaks").touch()
    peaks.note("router", 300)
    assert peaks.known("router") is None


ENGINE = Engine(None, None, SimpleNamespace(name="tcg"))
ROUTER = SimpleNamespace(vm_type="router", memory_mib=512, tenants=(SimpleNamespace(memory_mib=MEMORY_MIB),))


def test_a_copy_reserves_what_copies_like_it_were_seen_to_take():
    both = 512 + MEMORY_MIB
    assert ENGINE.need(ROUTER, resume=True).memory_mib == both // RESTORED_SHARE
    peaks.note(ENGINE.peak(ROUTER, resume=True), 631)
    assert ENGINE.need(ROUTER, resume=True).memory_mib == 631
    assert ENGINE.need(ROUTER, resume=False).memory_mib == both
    peaks.note(ENGINE.peak(ROUTER, resume=False), both + 60)
    assert ENGINE.need(ROUTER, resume=False).memory_mib == both + 60
    other = SimpleNamespace(
        vm_type="vpcrouter", memory_mib=512, tenants=(SimpleNamespace(memory_mib=MEMORY_MIB),)
    )
    assert ENGINE.need(other, resume=True).memory_mib == both // RESTORED_SHARE


def test_a_group_is_measured_when_it_ends(monkeypatch):
    monkeypatch.setattr(peaks, "memory_of", lambda names: 100 * len(list(names)))
    quiet = SimpleNamespace(close=lambda: None, release=lambda: None, remove=lambda _: None)
    machine = SimpleNamespace(name="m", destroy=lambda: None)
    monkeypatch.setattr("harness.vm.system.Machine.destroy", lambda _: None)
    vm = SystemVm(
        "S01", ROUTER, machine, quiet, {}, {"a": machine}, {}, quiet, quiet, backend=quiet, peak=("router",)
    )  # fmt: skip
    vm.stop()
    assert peaks.known(("router",)) == 200


def test_the_first_value_is_that_of_the_booted_machine_and_later_ones_stay(tmp_path, monkeypatch):
    for name in ("system.ram", "system.state"):
        (tmp_path / name).touch()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "system.qcow2", "1M"], check=True)
    machine = SimpleNamespace(name="m", ram=None, wait_idle=lambda: True, save_state=lambda _: None)
    vm = SimpleNamespace(
        topology=ROUTER, machine=machine, tenant_machines={}, machines=lambda: [machine], overlays=[],
        guest=SimpleNamespace(close=lambda: None), pause=lambda: None, stop=lambda: None, memory_mib=lambda: 270,
    )  # fmt: skip
    engine = replace(ENGINE, hypervisor=SimpleNamespace(uid=os.geteuid(), gid=os.getegid()))
    engine.freeze(vm, tmp_path)
    assert engine.need(ROUTER, resume=True).memory_mib == 270
    peaks.note(engine.peak(ROUTER, resume=True), 200)
    vm.memory_mib = lambda: 900
    engine.freeze(vm, tmp_path)
    assert engine.need(ROUTER, resume=True).memory_mib == 270


def test_what_the_kernel_says_is_left_is_read(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:  24000000 kB\nMemAvailable:   2048000 kB\n")
    assert peaks.available_mib(path) == 2000
    path.write_text("MemTotal:  24000000 kB\n")
    assert peaks.available_mib(path) is None
    assert peaks.available_mib(tmp_path / "none") is None


@pytest.fixture
def left(monkeypatch):
    """Return what sets how much memory the host has left; of tokens there are plenty."""
    monkeypatch.setenv("SYSVM_SLOTS", "100000,64")
    return lambda mib: monkeypatch.setattr(peaks, "available_mib", lambda: mib)


def test_a_host_without_memory_lets_wait_though_tokens_are_free(left, capsys):
    left(slots.MARGIN_MIB + 576)
    slots.reserve(slots.Need(576, 1), "fits", deadline=0).release()
    with pytest.raises(slots.NoRoom, match=r"more: no room for it within 0 s \(the host has 832 MiB left\)"):
        slots.reserve(slots.Need(700, 1), "more", deadline=0)
    threading.Timer(0.3, left, [5000]).start()
    slots.reserve(slots.Need(700, 1), "more", deadline=10).release()
    assert capsys.readouterr().err == "more: waiting for 700 MiB and 1 vCPUs that the host has not left\n"


def test_a_kernel_that_says_nothing_leaves_it_to_the_tokens(left):
    left(None)
    slots.reserve(slots.Need(700, 1), "more", deadline=0).release()


def test_more_than_the_host_ever_has_is_still_refused_at_once(left):
    left(10)
    with pytest.raises(InfrastructureError, match="more than this host can give"):
        slots.reserve(slots.Need(200_000, 1), "huge")
