"""The terminal's table: ids are never broken, and what was skipped is not counted as held."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from harness.record import results
from harness.record.events import EventLog, read
from harness.report import build, render_html, render_junit
from harness.report.rows import RunReport
from harness.report.table import render_table
from harness.traffic.measurement import Recorder

IDS = (
    "consoleproxy-from-4.15-S24-sshd-on-control-address-only",
    "vpcrouter-from-4.20-S34-incomplete-bundle-refused",
)


def report(folder: Path) -> RunReport:
    run = results.create(folder, "one")
    with EventLog(run.events) as log:
        for name in IDS:
            log.emit("scenario_started", scenario=name)
            log.emit("template", scenario=name, label="4.15.1 on Debian 11 slim (stand-in base)")
            log.emit("services", scenario=name, restarted=["haproxy", "apache2", "dnsmasq"])
            for number, verdict in enumerate(("passed",) * 3 + ("skipped",) * 2 + ("failed",)):
                log.emit("check", scenario=name, name=f"a.{number}", verdict=verdict, reason="a reason")
            log.emit(
                "scenario_finished", scenario=name, verdict="failed", reason="a.5: a reason", seconds=9.0
            )
        log.emit("run_finished", verdict="failed")
    return build(read(run.events))


def shown(found: RunReport, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False).print(render_table(found))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_ids_stay_whole_at_every_width(tmp_path: Path, width: int) -> None:
    lines = shown(report(tmp_path), width)
    for name in IDS:
        assert any(name in line for line in lines)
    if width >= 80:
        assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [80, 200])
def test_passed_failed_and_skipped_are_counted_apart(tmp_path: Path, width: int) -> None:
    text = " ".join(" ".join(shown(report(tmp_path), width)).split())
    if width == 80:
        assert text.count("3 passed, 1 failed, 2 skipped") == 2
    else:
        assert "passed ┃ failed ┃ skipped" in text
        assert text.count("│ 3 │ 1 │ 2 │") == 2
    assert "checks: 6 passed, 2 failed, 4 skipped" in render_html(report(tmp_path / "page"))
    suite = ET.fromstring(render_junit(report(tmp_path / "junit"))).find("testsuite")
    assert suite is not None
    # The scenario's own case failed, too.
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("7", "2", "2")


def test_the_longest_gap_is_one_number_in_table_drawing_and_budget() -> None:
    recorder = Recorder("x", 0.25, started=100.0)
    for at in (100.25, 100.5, 103.0, 103.25):
        recorder.sent()
        recorder.answered(at)
    seen = recorder.result(ended=103.5)
    assert max(end - begin for begin, end in seen.gaps) * 1000 == pytest.approx(seen.longest_gap_ms)
    assert seen.longest_gap_ms == pytest.approx(2250.0)
