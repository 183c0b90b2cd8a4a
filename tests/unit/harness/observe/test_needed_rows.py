"""Every row of the reviewed lists is needed: some run had a difference that it let pass, or it says why none can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bundle.errors import UsageError
from harness import checks
from harness.checks import Case
from harness.lab import between
from harness.observe import reviewed, tally
from harness.record.events import Event, EventLog, read
from tests import needed_rows
from tests.unit.harness.simulated_patch import File, before, world


def test_every_row_has_excused_something_in_a_recorded_run() -> None:
    """Otherwise no VM needs the row, or 'unseen' of the record has to say why no run of ours shows it."""
    assert needed_rows.idle(needed_rows.load()) == []


def test_a_row_is_idle_unless_one_of_its_patterns_was_seen_or_it_says_why_none_was() -> None:
    record = needed_rows.load()
    one, other, *_ = needed_rows.rows()
    bare = {**record, "unseen": {}, "seen": {}}
    assert {one, other} <= set(needed_rows.idle(bare))
    told = {
        "unseen": {one: "needs another kernel"},
        "seen": {needed_rows.rows()[other][-1]: {"router": {"S": 1}}},
    }
    assert {one, other} & set(needed_rows.idle(told)) == set()


def test_no_row_says_that_it_cannot_be_seen_although_it_was() -> None:
    record = needed_rows.load()
    seen = {row for row, names in needed_rows.rows().items() if any(name in record["seen"] for name in names)}
    assert record["unseen"].keys() & seen == set()
    assert all(reason.strip() for reason in record["unseen"].values())


def test_the_record_is_of_rows_that_are_there() -> None:
    record, rows = needed_rows.load(), needed_rows.rows()
    assert set(record["seen"]) - {name for names in rows.values() for name in names} == set()
    assert set(record["unseen"]) - set(rows) == set()


def test_rows_are_called_each_by_names_of_its_own() -> None:
    names = [name for names in needed_rows.rows().values() for name in names]
    assert len(set(names)) == len(names)


def looked_at(path: str) -> Case:
    """Return the case of a VM that is to be as before, and has one path more."""
    later = before()
    later.files[path] = File("more")
    seen = later.observation()
    return Case(
        vm_type="router",
        expected="kept",
        before=before().observation(),
        patched=seen,
        after=seen,
        signature="",
    )


def test_a_check_notes_which_pattern_excused_what() -> None:
    found = {row.name: row.excused for row in checks.judge(looked_at("/run/made-up.pid"), only=["files"])}
    assert found["files.kept"] == {("volatile path /run/*.pid", "/run/made-up.pid")}
    assert found["files.setuid"] == frozenset()


def test_what_is_no_difference_needs_no_row() -> None:
    made = checks.judge(looked_at("/etc/made-up"), only=["files.kept"])
    assert checks.excused(made) == {}
    assert [row.verdict for row in made] == ["failed"]


def test_what_several_checks_see_counts_once_and_is_an_event(tmp_path: object) -> None:
    assert isinstance(tmp_path, needed_rows.Path)
    case = looked_at("/run/made-up.pid")
    with EventLog(tmp_path / "events.jsonl") as log:
        scenario = "router-from-4.21-S01-rollback"
        with log.about(cell="router-from-4.21"):
            log.emit("scenario_started", scenario=scenario, type="router")
            made = checks.judge(case, only=["files.kept", "files.attributes"])
            checks.record(log, scenario, [*made, *made], "first patch")
            checks.record(log, scenario, checks.judge(case, only=["files.setuid"]))
    events = read(tmp_path / "events.jsonl")
    (event,) = [event for event in events if event.kind == "excused"]
    assert (event["occasion"], event["rows"]) == ("first patch", {"volatile path /run/*.pid": 1})
    record = needed_rows.merged({"seen": {"volatile path /no/longer": {}}, "unseen": {}}, events)
    assert record["seen"] == {"volatile path /run/*.pid": {"router": {"S01-rollback": 1}}}
    assert needed_rows.merged(record, events) == record


def test_what_was_excused_between_two_patches_is_noted_though_all_is_well() -> None:
    later = before()
    later.files["/run/made-up.pid"] = File("more")
    last = replace(world().case(), after=before().observation())
    (told,) = between.outcomes(last, later.observation(), "")
    assert told.verdict == "passed"
    assert told.excused == {("volatile path /run/*.pid", "/run/made-up.pid")}


def test_nobody_who_does_not_ask_is_told() -> None:
    with tally.opened() as outer:
        with tally.opened() as inner:
            assert reviewed.excuses("mount", "/run/user/0")
        assert not reviewed.excuses("mount", "/srv")
    assert (inner, outer) == ({"volatile mount /run/user/*": {"/run/user/0"}}, {})
    assert reviewed.excuses("mount", "/run/user/0")


@pytest.mark.parametrize("name", ["cloud-scripts.tgz", "agent.zip"])
def test_a_pattern_about_uploaded_files_is_one_row(name: str) -> None:
    with tally.opened() as seen:
        assert reviewed.excuses("path", f"/var/cache/cloud/{name}")
    assert seen == {"volatile path /var/cache/cloud/{uploaded}": {f"/var/cache/cloud/{name}"}}


def test_what_cloudstacks_own_scripts_need_is_told_apart() -> None:
    events = [
        Event(0, "", "options", {"options": {"--from-source": "cloudstack"}}),
        Event(0, "", "scenario_started", {"scenario": "own", "type": "router"}),
        Event(0, "", "excused", {"scenario": "own", "rows": {"volatile path /run/*.pid": 2}}),
    ]
    seen = needed_rows.merged({"seen": {}, "unseen": {}}, events)["seen"]
    assert seen == {"volatile path /run/*.pid": {"router with CloudStack's own scripts": {"own": 2}}}


def test_what_a_test_damaged_is_no_run() -> None:
    events = [Event(0, "", "excused", {"scenario": "test_a_damage", "rows": {"volatile path /run/*.pid": 2}})]
    with pytest.raises(UsageError, match="test_a_damage: no scenario of 'sysvm run'"):
        needed_rows.merged({"seen": {}, "unseen": {}}, events)


def test_an_event_of_a_row_that_is_gone_is_left_out() -> None:
    events = [
        Event(0, "", "scenario_started", {"scenario": "own", "type": "router"}),
        Event(0, "", "excused", {"scenario": "own", "rows": {"volatile path /no/longer": 1}}),
    ]
    assert needed_rows.merged({"seen": {}, "unseen": {}}, events)["seen"] == {}
