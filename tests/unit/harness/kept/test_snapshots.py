"""A person's snapshots: found by their own name or their VM's, and never half there. Real ones are in tests/e2e."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from bundle.errors import InfrastructureError, UsageError
from harness.host import cache
from harness.kept import snapshots
from harness.kept.listing import KeptVm
from harness.kept.snapshots import VmSnapshot
from harness.lab.subject import Subject
from harness.lab.wish import Wish
from harness.vm.golden import KEY_NAME


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path))


def put(name, vm, taken="2026-01-01T00:00:00Z"):
    snapshot = VmSnapshot(name, vm, "router", "4.21", None, None, None, "abc", taken)
    cache.obtain(
        cache.SNAPSHOTS,
        name,
        lambda folder: (folder / "snapshot.json").write_text(json.dumps(asdict(snapshot))),
    )
    return snapshot


def kept(name):
    return KeptVm(
        name=name, run="a1b2c3", vm_type="router", release="4.21", label="", ssh_port=1, ssh_key="", folder="/r/x",
        endpoints={}, debian=None, network=None, template=None, golden="abc", source="/g/abc", tenants=["net1"],
    )  # fmt: skip


def test_a_snapshot_is_found_by_its_name_before_that_of_a_vm():
    put("other", "a")
    mine = put("a", "b")
    assert snapshots.find("a") == mine


def test_a_vms_name_means_its_latest_snapshot():
    put("a-1", "a", "2026-01-02T00:00:00Z")
    latest = put("a-2", "a", "2026-01-03T00:00:00Z")
    put("a-0", "a", "2026-01-01T00:00:00Z")
    assert snapshots.find("a") == latest


def test_an_unknown_snapshot_is_refused_with_the_known_ones():
    put("a-1", "a")
    with pytest.raises(UsageError, match=r"no snapshot 'b' \(there is a-1\)"):
        snapshots.find("b")


def test_a_forgotten_snapshot_is_gone():
    put("a-1", "a")
    snapshots.forget("a-1")
    assert snapshots.every() == []


def test_a_taken_name_is_refused():
    put("a-1", "a")
    with pytest.raises(UsageError, match="named 'a-1' is there already"):
        snapshots.take(kept("a"), "a-1")


def test_an_unusable_name_is_refused():
    with pytest.raises(UsageError, match=r"unusable name '\.\./x'"):
        snapshots.take(kept("a"), "../x")


def test_domains_are_named_after_run_vm_and_tenant():
    assert kept("a").domain() == "sysvm-a1b2c3-a"
    assert kept("a").domain("net1") == "sysvm-a1b2c3-a-net1"


def test_no_snapshot_is_taken_of_a_vm_that_is_none_itself():
    with pytest.raises(UsageError, match="a came up with no snapshot"):
        snapshots.take(replace(kept("a"), golden="", source=""))


class Machine:
    """A machine that stands still, is written down, and goes on."""

    def __init__(self, name):
        self.name, self.folder, self.running, self.fails, self.attached = name, "/r/x", True, False, False

    def pause(self):
        self.running = False

    def resume(self):
        self.running = True

    def alive(self):
        return True

    def save_state(self, target):
        assert not self.running
        assert self.attached, "the state would leave out what lies in a file, or say that it does"
        if self.fails:
            raise OSError(28, "No space left on device")
        target.write_bytes(b"state")


@pytest.fixture
def failed(tmp_path, monkeypatch):
    """A lab and a VM of a scenario that failed."""
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))
    golden = tmp_path / "golden/abc"
    golden.mkdir(parents=True)
    (golden / KEY_NAME).write_text("secret")
    disk = tmp_path / "S01.qcow2"
    disk.write_bytes(b"disk")
    wish = Wish("router", "4.21", "4.22", subject=Subject(from_source=tmp_path))
    lab = SimpleNamespace(
        wish=wish,
        host=SimpleNamespace(uid=os.getuid(), gid=os.getgid()),
        golden=SimpleNamespace(folder=golden),
    )
    machines = {name: Machine(name) for name in ("live-patch", "live-patch-net1")}

    def attach(_host, name, _folder):
        machines[name].attached = True
        return machines[name]

    monkeypatch.setattr(snapshots, "attach", attach)
    system, tenant = machines.values()
    return lab, SimpleNamespace(machine=system, tenant_machines={"net1": tenant}, overlays=[disk])


def test_the_vm_of_a_failed_scenario_is_kept_and_goes_on(failed, tmp_path):
    lab, vm = failed
    names = [snapshots.take_failed(lab, vm).name for _ in range(2)]
    assert names == ["failed-router-1", "failed-router-2"]
    (kept, _) = snapshots.every()
    assert (kept.vm, kept.release, kept.golden) == ("failed-router", "4.21", "abc")
    assert kept.booted() == Subject(from_source=tmp_path)
    there = {path.name for path in kept.folder.iterdir()}
    assert there == {"system.state", "net1.state", "system.qcow2", KEY_NAME, "snapshot.json"}
    assert vm.machine.running
    assert vm.tenant_machines["net1"].running


def test_of_a_vm_that_cannot_be_written_down_nothing_remains_and_it_goes_on(failed):
    lab, vm = failed
    vm.tenant_machines["net1"].fails = True
    with pytest.raises(InfrastructureError, match="No space left on device"):
        snapshots.take_failed(lab, vm)
    assert snapshots.every() == []
    assert vm.machine.running


def test_failed_vms_do_not_fill_the_disk(failed):
    for number in range(10):
        put(f"failed-ilbvm-{number}", "failed-ilbvm")
    with pytest.raises(UsageError, match="10 VMs of failed scenarios are kept already"):
        snapshots.take_failed(*failed)
