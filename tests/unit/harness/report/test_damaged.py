"""Damaged and hostile logs: one clear line or a report that says so, never a traceback, never a pass."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import sysvm
from harness.record import results
from harness.record.events import EventLog
from harness.report import load, render_html, write
from harness.report.event_fields import MAX_LINE, MAX_LINES, MAX_TEXT

START = {"t": 0, "at": "2026-01-31T00:00:00+00:00", "kind": "run_started", "monotonic": 1.0}
WELL = [
    {"kind": "scenario_started", "scenario": "S"},
    {"kind": "check", "scenario": "S", "name": "a.b", "verdict": "passed"},
    {"kind": "scenario_finished", "scenario": "S", "verdict": "passed", "seconds": 1.0},
    {"kind": "run_finished", "verdict": "passed"},
]
DAMAGED = [
    {"kind": "check", "scenario": "S", "verdict": "passed"},
    {"kind": "check", "scenario": "S", "name": "x"},
    {"kind": "check", "scenario": "S", "name": "x", "verdict": "maybe"},
    {"kind": "check", "scenario": "S", "name": "x", "verdict": ["passed"]},
    {"kind": "check", "scenario": "S", "name": "x", "verdict": "passed", "details": 7},
    {"kind": "check", "scenario": "S", "name": "x", "verdict": "passed", "seconds": "1"},
    {"kind": "scenario_finished", "scenario": "S", "verdict": "fine"},
    {"kind": "scenario_finished", "scenario": "S", "verdict": "passed", "seconds": float("nan")},
    {"kind": "step_finished", "scenario": "S", "name": "x", "verdict": "passed"},
    {"kind": "step_started", "scenario": "S"},
    {"kind": "probe", "scenario": "S", "name": "x"},
    {"kind": "probe", "scenario": "S", "name": "x", "started": 0, "ended": 1, "sent": 1, "lost": 0,
     "longest_gap_ms": 0, "gaps": [[1]]},
    {"kind": "probe", "scenario": "S", "name": "x", "started": 0, "ended": float("inf"), "sent": 1, "lost": 0,
     "longest_gap_ms": 0},
    {"kind": "probe", "scenario": "S", "name": "x", "started": 0, "ended": 1, "sent": 1, "lost": 0,
     "longest_gap_ms": 0, "budget_ms": "much"},
    {"kind": "services", "scenario": "S", "restarted": "haproxy"},
    {"kind": "services", "scenario": "S"},
    {"kind": "rules", "scenario": "S", "reapplied": None},
    {"kind": "run", "facts": ["x"]},
    {"kind": "run"},
    {"kind": "options", "options": None},
    {"kind": "subject", "subject": "x"},
    {"kind": "template", "scenario": "S"},
    {"kind": "patch", "scenario": "S"},
    {"kind": "patch", "scenario": "S", "success": True, "log": 1},
    {"kind": "logs", "scenario": "S"},
    {"kind": "run_finished", "verdict": "well"},
]  # fmt: skip
NO_EVENTS = [
    "[1]", "7", "null", '"x"', "{}", '{"t": "1", "at": "", "kind": "x"}', '{"t": 1, "at": 2, "kind": "x"}',
    '{"t": NaN, "at": "2026-01-31T00:00:00+00:00", "kind": "x"}',
    '{"t": 1, "at": "2026-01-31T00:00:00+00:00", "kind": []}', "[" * 100_000,
]  # fmt: skip


def log_of(folder: Path, *lines: object) -> results.ResultsFolder:
    run = results.create(folder, "one")
    head = {"t": 1.0, "at": "2026-01-31T00:00:01+00:00"}
    texts = [line if isinstance(line, str) else json.dumps({**head, **line}) for line in lines]
    run.events.write_text("\n".join([json.dumps(START), *texts]) + "\n")
    return run


def report(folder: Path) -> tuple[int, str]:
    done = CliRunner().invoke(sysvm, ["report", "one", "--results", str(folder)], standalone_mode=False)
    if done.exception is not None:
        assert type(done.exception).__name__ in {"UsageError", "CheckFailed"}, done.exception
        return 2, str(done.exception)
    return int(done.return_value), done.output


def test_the_log_without_the_damage_passes(tmp_path: Path) -> None:
    log_of(tmp_path, *WELL)
    assert report(tmp_path)[0] == 0


@pytest.mark.parametrize("line", DAMAGED, ids=json.dumps)
def test_a_damaged_event_never_passes_and_is_named(tmp_path: Path, line: dict[str, object]) -> None:
    log_of(tmp_path, *WELL[:2], line, *WELL[2:])
    status, said = report(tmp_path)
    assert status == 1
    assert "the event log is damaged in 1 place(s): event 4" in said


def test_a_line_that_is_cut_off_in_the_middle_of_a_log_never_passes(tmp_path: Path) -> None:
    log_of(tmp_path, *WELL[:2], '{"t": 1, "at"', *WELL[2:])
    status, said = report(tmp_path)
    assert status == 1
    assert "line 4 is cut off" in said


@pytest.mark.parametrize("line", NO_EVENTS, ids=lambda line: line[:40])
def test_a_line_that_is_no_event_is_one_clear_line(tmp_path: Path, line: str) -> None:
    log_of(tmp_path, line, *WELL)
    status, said = report(tmp_path)
    assert status == 2
    assert "events.jsonl:2: not an event" in said


def test_endless_texts_are_cut_off_and_the_cut_is_said(tmp_path: Path) -> None:
    endless = {**WELL[1], "verdict": "failed", "reason": "x" * 200_000, "details": ["y" * 2000] * 1000}
    run = log_of(tmp_path, WELL[0], endless, *WELL[2:])
    found = load(run)
    (check, *_) = found.scenarios[0].checks
    assert f"({200_000 - MAX_TEXT} more characters are in events.jsonl)" in check.reason
    assert check.details[-1] == f"… {1000 - MAX_LINES} more lines are in events.jsonl"
    assert len(render_html(found)) < MAX_LINES * (MAX_LINE + 100) + 50_000


def test_a_hostile_guest_reaches_no_terminal_through_a_report(tmp_path: Path) -> None:
    evil = "\x1b]0;x\x07\x1b[2J\x9b\u202e\ud800"
    run = results.create(tmp_path, "one")
    with EventLog(run.events) as log:
        log.emit("run", facts={evil: evil})
        log.emit("subject", subject={"cell": evil, "bundle": {"files": {evil: evil}}})
        log.emit("scenario_started", scenario=evil, title=evil)
        log.emit("template", scenario=evil, label=evil)
        log.emit("services", scenario=evil, restarted=[evil])
        log.emit("step_started", scenario=evil, name=evil, vm=evil)
        log.emit("patch", scenario=evil, success=False, details=evil, log=[evil], seconds=1.0)
        log.emit("check", scenario=evil, name=evil, verdict="failed", reason=evil, details=[evil])
        log.emit("scenario_finished", scenario=evil, verdict="failed", reason=evil, seconds=1.0)
        log.emit("run_finished", verdict="failed", reason=evil)
    status, said = report(tmp_path)
    assert status == 1
    as_json = CliRunner().invoke(
        sysvm, ["report", "one", "--json", "--results", str(tmp_path)], standalone_mode=False
    )
    assert json.loads(as_json.output)["scenarios"][0]["id"] == evil
    for text in (said, as_json.output, write(run) and (run.folder / "junit.xml").read_text()):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", text)
