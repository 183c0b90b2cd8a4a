"""JUnit as CI systems read it: no case hides another, and a failure shows when and of what it was."""

from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree as ET

from harness.record.events import Event
from harness.report import build, render_junit
from harness.report.junit import MOST_CASES
from harness.report.timeline import drawings
from tests.unit.harness.report.recorded import many

SCENARIO = "router-from-4.21-live-patch"
LOG = [
    "2026-01-31T00:00:03+0000 [619] restarting haproxy",
    "[ALERT] config : unknown keyword 'balanc', did you mean 'balance'?",
    "2026-01-31T00:00:04+0000 [619] rolling back, cannot bring service haproxy up",
]


def rows() -> list[Event]:
    def check(
        occasion: str, verdict: str = "passed", name: str = "services.up"
    ) -> tuple[str, dict[str, object]]:
        return "check", {
            "scenario": SCENARIO, "name": name, "verdict": verdict, "occasion": occasion, "seconds": 0.25,
        }  # fmt: skip

    told: list[tuple[str, dict[str, object]]] = [
        ("subject", {"subject": {"bundle": {"files": {"cloud-scripts.tgz": "ab" * 32}}}}),
        ("scenario_started", {"scenario": SCENARIO, "type": "router", "file": "harness/scenarios/test_x.py"}),
        ("step_started", {"scenario": SCENARIO, "name": "live patch", "vm": "r-10-VM"}),
        ("step_finished", {"scenario": SCENARIO, "name": "live patch", "seconds": 2.0, "verdict": "passed"}),
        ("patch", {"scenario": SCENARIO, "success": False, "occasion": "second patch", "log": LOG}),
        check("first patch"),
        check("second patch", "failed"),
        check("", name="patch.ran"),
        check("", name="patch.ran"),
        check("", name="scenario"),
        ("logs", {"scenario": SCENARIO, "files": ["logs/a/livepatch.log"]}),
        ("scenario_finished", {"scenario": SCENARIO, "verdict": "failed", "reason": "x", "seconds": 9.5}),
        ("run_finished", {"verdict": "failed"}),
    ]
    return [
        Event(float(second), f"2026-01-31T00:00:{second:02}+00:00", kind, fields)
        for second, (kind, fields) in enumerate(told)
    ]


def suite() -> ET.Element:
    found = ET.fromstring(render_junit(build(rows()))).find("testsuite")
    assert found is not None
    return found


def test_no_case_is_dropped_by_the_rule_of_ci_systems() -> None:
    keys = Counter(
        (case.get("file"), case.get("classname"), case.get("name")) for case in suite().iter("testcase")
    )
    assert set(keys.values()) == {1}
    assert {name for _, _, name in keys} == {
        "scenario", "services.up (first patch)", "services.up (second patch)", "patch.ran", "patch.ran #2",
        "scenario #2",
    }  # fmt: skip


def test_the_failure_of_the_second_patch_is_that_of_the_second_patch() -> None:
    failed = [case.get("name") for case in suite().iter("testcase") if case.find("failure") is not None]
    assert failed == ["scenario", "services.up (second patch)"]


def test_times_files_and_starts_are_real() -> None:
    found = suite()
    assert (found.get("time"), found.get("timestamp")) == ("9.500", "2026-01-31T00:00:01")
    times = {case.get("name"): case.get("time") for case in found.iter("testcase")}
    assert times["scenario"] == "9.500"
    assert times["services.up (first patch)"] == "0.250"
    assert {case.get("file") for case in found.iter("testcase")} == {"harness/scenarios/test_x.py"}


def test_the_digest_of_the_bundle_is_a_property() -> None:
    properties = {row.get("name"): row.get("value") for row in suite().iter("property")}
    assert properties["bundle.cloud-scripts.tgz"] == "ab" * 32


def test_the_words_of_the_failed_service_and_the_logs_are_with_the_scenario() -> None:
    own = suite().find("testcase[@name='scenario']")
    assert own is not None
    story, output = own.findtext("failure") or "", own.findtext("system-out") or ""
    assert "r-10-VM: live patch  2.000 s" in story
    assert "script: restarting haproxy" in story
    for text in (story, output):
        assert "did you mean 'balance'?" in text
    assert "[[ATTACHMENT|logs/a/livepatch.log]]" in output


def test_the_scripts_own_lines_are_on_the_clock_of_the_run() -> None:
    (row,) = build(rows()).scenarios
    assert row.patches[0].said == ((3.0, "restarting haproxy"), (4.0, LOG[2].partition("] ")[2]))


def test_the_drawing_has_the_scripts_lines_beside_the_steps() -> None:
    probe = {
        "scenario": SCENARIO, "name": "http", "started": 2.0, "ended": 6.0, "sent": 9, "lost": 0, "longest_gap_ms": 1,
        "occasion": "second patch",
    }  # fmt: skip
    told = [*rows()[:-1], Event(12.5, "2026-01-31T00:00:12+00:00", "probe", probe), rows()[-1]]
    (drawing,) = drawings(build(told).scenarios[0])
    lanes = {lane.label: lane for lane in drawing.lanes}
    assert [bar.label for bar in lanes["steps"].bars] == ["live patch"]
    assert [bar.label for bar in lanes["script's log"].bars] == [
        LOG[0].partition("] ")[2],
        LOG[2].partition("] ")[2],
    ]


def test_a_run_with_very_many_checks_lists_what_failed_and_counts_what_held() -> None:
    report = many(500, 10)
    root = ET.fromstring(render_junit(report))
    assert sum(len(row.checks) for row in report.scenarios) > MOST_CASES
    # Each failed check, the scenario that it failed, and the run.
    failed = sum(len(row.failures) + 1 for row in report.scenarios if row.failures) + 1
    assert root.get("failures") == str(failed)
    suites = root.findall("testsuite[@name]")
    assert all(suite.find("testcase[@name='scenario']") is not None for suite in suites[:500])
    names = [case.get("name") or "" for case in suites[0].iter("testcase")]
    assert [name for name in names if re.fullmatch(r"\d+ checks passed, \d+ skipped", name)]
    assert len(render_junit(report)) < 5_000_000
