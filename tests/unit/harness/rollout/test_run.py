"""A run patches each unit once, in order, and believes nothing that it has not seen."""

import random

import pytest

from harness.record.events import read
from harness.report import build
from harness.rollout.order import RolloutLimits
from harness.rollout.plan import Choice
from harness.rollout.transport import LostAnswer, SessionEnded
from tests.unit.harness.rollout import playing
from tests.unit.harness.rollout.stand_in import CHANGES, GIVEN_UP, Cloud, Wire, lose, refuse, small


@pytest.fixture
def cloud():
    return Cloud()


@pytest.fixture
def ids(cloud):
    return small(cloud)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


@pytest.mark.usefixtures("ids")
def test_every_unit_is_patched_once_and_verified(cloud, path):
    result = playing.run(cloud, path)
    assert (result.verdict, result.remaining) == ("passed", 0)
    assert set(cloud.patched.values()) == {1}
    assert len(cloud.patched) == 6
    assert set(playing.verdicts(path).values()) == {"passed"}
    assert cloud.violations == []


@pytest.mark.usefixtures("ids")
def test_what_is_announced_is_on_the_disk_before_it_is_done(cloud, path, quick_disk):
    seen = []

    def trouble(command, moment):
        if command in CHANGES and moment == "before":
            last = read(path)[-1]
            seen.append((last.kind, last["command"], len(quick_disk) == len(read(path))))

    playing.run(cloud, path, wire=Wire(cloud, trouble))
    assert len(seen) == 6
    assert all(kind == "rollout_intent" and flushed for kind, _, flushed in seen)
    assert [command for _, command, _ in seen].count("restartNetwork") == 3


def test_units_come_in_their_order(cloud, ids, path):
    playing.run(cloud, path, choice=Choice(canaries=("web",)))
    assert [unit for _, unit in cloud.starts] == [
        ids[name] for name in ("web", "cpvm", "ssvm", "pair", "shop", "lan")
    ]


@pytest.mark.parametrize(
    ("lie", "unit", "check"),
    [
        ("silent", "web", "rollout.scripts"),
        ("silent", "shop", "rollout.scripts"),
        ("silent", "cpvm", "rollout.agent"),
        ("agent", "ssvm", "rollout.agent"),
        ("never", "web", "rollout.health"),
        ("two primaries", "pair", "rollout.roles"),
        ("stopped", "lan", "rollout.state"),
    ],
)
def test_a_lie_is_found_and_ends_the_run(cloud, ids, path, lie, unit, check):
    cloud.lies[ids[unit]] = lie
    result = playing.run(cloud, path)
    assert result.verdict == "failed"
    report = build(read(path))
    failed = [row for row in report.scenarios if row.verdict == "failed"]
    assert len(failed) == 1
    assert failed[0].reason.startswith(check)
    assert [row.name for row in failed[0].checks if row.verdict == "failed"] == [check]
    assert len(cloud.patched) == [row for _, row in cloud.starts].index(ids[unit]) + 1


def test_a_job_that_never_ends_is_given_up_and_followed_again_later(cloud, ids, path):
    cloud.lies[ids["web"]] = "hangs"
    assert playing.run(cloud, path).verdict == "failed"
    assert playing.state(path).units[ids["web"]].open
    cloud.lies.clear()
    assert playing.resume(cloud, path).verdict == "passed"
    assert set(cloud.patched.values()) == {1}


def test_a_job_that_the_server_gives_up_is_followed_by_looking_at_what_it_began(cloud, ids, path):
    """After its hour CloudStack fails a job that goes on: the unit is not failed, not patched again, not passed by."""
    cloud.lies[ids["web"]] = "given up"
    assert playing.run(cloud, path, RolloutLimits(max_failures=9, at_once=2)).verdict == "passed"
    assert set(cloud.patched.values()) == {1}
    assert cloud.violations == []


def test_nothing_else_begins_while_a_job_that_was_given_up_may_be_under_way(cloud, ids, path):
    cloud.lies[ids["web"]] = "given up for good"
    limits = RolloutLimits(max_failures=9)
    assert playing.run(cloud, path, limits).verdict == "failed"
    standing = playing.state(path).units[ids["web"]]
    assert (standing.open, standing.verdict) == (True, "error")
    assert f"given up by the server ({GIVEN_UP})" in standing.reason
    assert cloud.starts[-1][1] == ids["web"]
    assert len(cloud.starts) < len(ids)
    cloud.lies.clear()
    assert playing.resume(cloud, path, limits).verdict == "failed"
    assert playing.resume(cloud, path, limits, retry=frozenset({ids["web"]})).verdict == "passed"
    assert cloud.patched[ids["web"]] == 2


def test_a_failed_job_says_what_stands_where(cloud, ids, path):
    cloud.lies[ids["web"]] = "fails"
    result = playing.run(cloud, path)
    assert result.verdict == "failed"
    assert (
        "Failed to restart network; now: r-10-VM is Running and does not have it"
        in playing.state(path).units[ids["web"]].reason
    )


def test_a_failed_unit_is_tried_again_only_when_it_is_named(cloud, ids, path):
    cloud.lies[ids["web"]] = "silent"
    playing.run(cloud, path)
    cloud.lies.clear()
    playing.resume(cloud, path)
    assert cloud.patched[ids["web"]] == 1
    assert playing.resume(cloud, path, retry=frozenset({ids["web"]})).verdict == "passed"
    assert cloud.patched[ids["web"]] == 2


def test_a_unit_that_came_right_by_itself_is_not_patched_again_when_it_is_retried(cloud, ids, path):
    cloud.lies[ids["web"]] = "silent"
    playing.run(cloud, path)
    for row in cloud.vms.values():
        if row.get("guestnetworkid") == ids["web"]:
            row["scriptsversion"] = "b" * 128
    playing.resume(cloud, path, retry=frozenset({ids["web"]}))
    assert cloud.patched[ids["web"]] == 1


def test_what_fails_before_the_patch_is_not_blamed_on_it(cloud, ids, path):
    router = next(row["id"] for row in cloud.vms.values() if row["name"] == "r-10-VM")
    cloud.failing[router] = ["basic_test.py"]
    assert playing.run(cloud, path).verdict == "passed"


def test_a_peer_in_fault_keeps_a_pair_untouched(cloud, ids, path):
    made = playing.plan(cloud)
    for row in cloud.vms.values():
        if row["name"] == "r-21-VM":
            row["redundantstate"] = "FAULT"
    result = playing.run(cloud, path, made=made)
    assert result.verdict == "failed"
    assert ids["pair"] not in cloud.patched
    assert "not one PRIMARY and one BACKUP" in playing.state(path).units[ids["pair"]].reason


def test_a_network_that_is_gone_meanwhile_is_passed_over(cloud, ids, path):
    made = playing.plan(cloud)
    del cloud.networks[ids["web"]]
    assert playing.run(cloud, path, made=made).verdict == "passed"
    assert playing.state(path).units[ids["web"]].verdict == "skipped"


@pytest.mark.parametrize("seed", range(20))
def test_lost_answers_never_patch_twice(cloud, ids, path, seed):
    wire = Wire(cloud, lose(random.Random(seed), 0.5))
    assert playing.run(cloud, path, wire=wire).verdict == "passed"
    assert set(cloud.patched.values()) == {1}
    assert len(cloud.patched) == len(ids)


def test_a_server_that_keeps_no_ids_is_never_asked_twice(cloud, ids, path):
    cloud.keeps_ids = False
    lost = []

    def trouble(command, moment):
        if command == "restartVPC" and moment == "after" and not lost:
            lost.append(command)
            raise LostAnswer(f"{command}: no answer")

    assert playing.run(cloud, path, wire=Wire(cloud, trouble)).verdict == "failed"
    standing = playing.state(path).units[ids["shop"]]
    assert standing.open
    assert "keeps no job ids" in standing.reason
    assert cloud.patched[ids["shop"]] == 1


@pytest.mark.parametrize("seed", range(10))
def test_busy_servers_and_sessions_that_end_are_waited_out(cloud, ids, path, seed):
    wire = Wire(cloud, refuse(random.Random(seed), 0.2, ("busy",)))
    assert playing.run(cloud, path, wire=wire).verdict == "passed"
    assert set(cloud.patched.values()) == {1}
    ended = Cloud()
    small(ended)
    once = set()

    def trouble(command, moment):
        if moment == "before" and command not in once:
            once.add(command)
            raise SessionEnded(command)

    wire = Wire(ended, trouble)
    assert playing.run(ended, path.with_name("two.jsonl"), wire=wire).verdict == "passed"
    assert wire.renewed == len(once) > 5
    assert set(ended.patched.values()) == {1}


def test_a_run_ends_after_as_many_units_as_were_asked_for_and_resumes(cloud, ids, path):
    assert playing.run(cloud, path, RolloutLimits(most=2)).remaining == 4
    assert sum(cloud.patched.values()) == 2
    assert playing.resume(cloud, path, RolloutLimits(most=1)).remaining == 3
    assert playing.resume(cloud, path).remaining == 0
    assert set(cloud.patched.values()) == {1}


def test_other_units_go_on_until_as_many_failed_as_are_allowed(cloud, ids, path):
    cloud.lies[ids["cpvm"]] = cloud.lies[ids["ssvm"]] = "silent"
    result = playing.run(cloud, path, RolloutLimits(max_failures=3))
    assert result.verdict == "failed"
    assert len(cloud.patched) == 6


def test_a_person_who_wants_an_end_gets_it_after_what_is_under_way(cloud, ids, path):
    result = playing.run(cloud, path, wants_end=lambda: bool(cloud.starts))
    assert result.verdict == "passed"
    assert result.reason == "ended by a person; 5 unit(s) not begun"
    assert len(cloud.patched) == 1
    assert list(playing.verdicts(path).values()).count("passed") == 1


def test_probes_run_before_and_after(cloud, ids, path, tmp_path):
    script = tmp_path / "probe"
    script.write_text(f'#!/bin/sh\necho "$1 $2" >> {tmp_path}/calls\ntest "$1" != lan\n')
    script.chmod(0o755)
    settings = playing.Settings(settle=5, soak=0, probe=f"{script} {{unit}} {{kind}}")
    result = playing.run(cloud, path, settings=settings)
    assert result.verdict == "failed"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls.count("web network") == 2
    assert calls.count("lan shared network") == 1
    assert ids["lan"] not in cloud.patched
