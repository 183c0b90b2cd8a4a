"""Many VMs: time limits, thresholds, totals that add up; and where each of them stands."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from bundle.errors import InfrastructureError
from harness.management import Target, patch_many, status_of
from harness.management.fleet import FleetRow
from harness.management.server import Patched
from tests.unit.harness.simulator import NEW, OLD, Cloud


def patching(cloud: Cloud) -> Callable[[Target], Patched]:
    return lambda target: cloud.server.patch(cloud.inventory.vm(target.name))


class Watcher:
    def __init__(self) -> None:
        self.begun: list[str] = []
        self.rows: list[tuple[str, str, int, int]] = []

    def started(self, name: str) -> None:
        self.begun.append(name)

    def ended(self, row: FleetRow, done: int, total: int) -> None:
        self.rows.append((row.name, row.word, done, total))


def fleet(count: int) -> tuple[Cloud, list[Target]]:
    cloud = Cloud()
    return cloud, [Target(f"r-{n}-VM", cloud.router(f"r-{n}-VM")) for n in range(count)]


def test_all_are_patched_in_order_and_the_progress_is_true() -> None:
    cloud, targets = fleet(3)
    watcher = Watcher()
    summary = patch_many(targets, patching(cloud), watcher)
    assert summary.ok
    assert cloud.patches() == ["r-0-VM", "r-1-VM", "r-2-VM"]
    assert watcher.rows == [(f"r-{n}-VM", "patched", n + 1, 3) for n in range(3)]


def test_one_fails_one_hangs_and_the_totals_add_up() -> None:
    cloud, targets = fleet(6)
    cloud.guests["r-1-VM"].fails = "haproxy is not active"
    cloud.guests["r-2-VM"].waits_for = hang = threading.Event()
    cloud.guests["r-3-VM"].signature = NEW
    cloud.guests["r-4-VM"].unreachable = True
    summary = patch_many(targets, patching(cloud), Watcher(), parallel=3, time_limit=0.3)
    hang.set()
    assert summary.totals == {"patched": 2, "unchanged": 1, "failed": 2, "timed out": 1, "not started": 0}
    assert sum(summary.totals.values()) == len(targets)
    assert [row.word for row in summary.rows] == [
        "patched",
        "failed",
        "timed out",
        "unchanged",
        "failed",
        "patched",
    ]
    assert summary.rows[1].details == "the live patch failed: haproxy is not active"
    assert summary.rows[2].details == "no end within 0.3 s"
    assert "no SSH login" in summary.rows[4].details
    assert not summary.ok


def test_the_threshold_stops_what_has_not_started() -> None:
    cloud, targets = fleet(5)
    for name in ("r-0-VM", "r-1-VM"):
        cloud.guests[name].fails = "x"
    watcher = Watcher()
    summary = patch_many(targets, patching(cloud), watcher, max_failures=2)
    assert [row.word for row in summary.rows] == [
        "failed",
        "failed",
        "not started",
        "not started",
        "not started",
    ]
    assert summary.rows[2].details == "2 VMs had failed"
    assert watcher.begun == ["r-0-VM", "r-1-VM"]


def test_never_more_than_asked_for_run_at_once() -> None:
    gate, running, most = threading.Lock(), [0], [0]
    barrier = threading.Barrier(3, timeout=10)

    def work(target: Target) -> Patched:
        with gate:
            running[0] += 1
            most[0] = max(most[0], running[0])
        barrier.wait()
        with gate:
            running[0] -= 1
        return Patched("", True, "")

    _, targets = fleet(6)
    assert patch_many(targets, work, Watcher(), parallel=3).ok
    assert most == [3]


def test_a_defect_in_one_turn_does_not_lose_the_others() -> None:
    def work(target: Target) -> Patched:
        if target.name == "r-0-VM":
            raise KeyError("x")
        if target.name == "r-1-VM":
            raise InfrastructureError("no way in", hint="look at the console")
        return Patched("", True, "")

    summary = patch_many(fleet(3)[1], work, Watcher(), parallel=2)
    assert [row.word for row in summary.rows] == ["failed", "failed", "patched"]
    assert summary.rows[0].details == "KeyError: 'x'"
    assert summary.rows[1].details == "no way in (look at the console)"


def test_nothing_to_do_is_well_done() -> None:
    summary = patch_many([], lambda target: Patched("", False, ""), Watcher())
    assert summary.ok
    assert summary.rows == ()


def test_status_says_what_is_installed_available_and_possible() -> None:
    cloud, targets = fleet(5)
    cloud.guests["r-1-VM"].signature = NEW
    cloud.guests["r-2-VM"].unreachable = True
    cloud.guests["r-3-VM"].template = "Cloudstack Release 4.13.1 x"
    cloud.guests["r-4-VM"].template = "something else"
    cloud.guests["r-4-VM"].record = json.dumps({"state": "rolled-back", "reason": "haproxy is not active"})
    plain, current, away, ancient, odd = status_of(targets, cloud.bundle, "4.22")
    assert (plain.installed, plain.available, plain.live_patch_available) == (OLD, NEW, True)
    assert (current.live_patch_available, current.reason) == (False, "it runs the bundle's scripts")
    assert (away.live_patch_available, away.installed, away.error) == (False, "", "r-2-VM: no SSH login")
    assert (ancient.verdict, ancient.live_patch_available) == ("no", False)
    assert (odd.verdict, odd.live_patch_available) == ("unknown", False)
    assert odd.last_patch == "rolled-back: haproxy is not active"
    assert plain.last_patch == ""


def test_status_of_nothing_is_empty() -> None:
    assert status_of([], fleet(0)[0].bundle) == ()


@pytest.mark.parametrize(("said", "told"), [("", ""), ("not json", "not json"), ("[]", "[]"), ("{}", "{}")])
def test_a_vm_that_does_not_say_what_became_of_its_last_patch_is_told_from_one_that_had_none(
    said: str, told: str
) -> None:
    cloud, targets = fleet(1)
    cloud.guests["r-0-VM"].record = said
    place = "/var/lib/cloud-livepatch/patch-sysvms.sh --status ended with status 0 and said"
    found = status_of(targets, cloud.bundle)[0].last_patch
    assert found == (f"unknown: {place} {told}" if told else "")
