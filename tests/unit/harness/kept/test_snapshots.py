"""A person's snapshots: found by their own name or their VM's, and never half there. Real ones are in tests/e2e."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from bundle.errors import UsageError
from harness.host import cache
from harness.kept import snapshots
from harness.kept.listing import KeptVm
from harness.kept.snapshots import VmSnapshot


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
