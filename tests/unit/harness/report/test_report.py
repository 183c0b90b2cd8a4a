"""The three views of a run: they say what the events say, and a guest's output is only ever text."""

from __future__ import annotations

import html.parser
import io
import re
from pathlib import Path
from xml.etree import ElementTree as ET

from click.testing import CliRunner
from rich.console import Console

from harness.cli import sysvm
from harness.record import results
from harness.record.events import Event, EventLog
from harness.report import build, render_html, render_junit, write
from harness.report.table import gap_text, render_table
from harness.report.timeline import drawings

HOSTILE = "<script>alert(1)</script>\x1b]0;x\x07 {{ 7*7 }} [bold]&\x00\ud800"


def events(*rows: tuple[str, dict[str, object]]) -> list[Event]:
    return [
        Event(float(t), "2026-01-31T00:00:00+00:00", kind, fields) for t, (kind, fields) in enumerate(rows)
    ]


def good_run() -> list[Event]:
    scenario = {"scenario": "router-from-4.21-live-patch"}
    return events(
        ("run", {"facts": {"command": "sysvm run", "types": ["router", "ilbvm"]}}),
        ("scenario_started", {**scenario, "title": "Live patch", "type": "router", "from": "4.21"}),
        ("step_started", {**scenario, "name": "patch"}),
        ("step_finished", {**scenario, "name": "patch", "seconds": 1.5, "verdict": "passed"}),
        ("services", {**scenario, "restarted": ["haproxy"]}),
        ("services", {**scenario, "restarted": ["haproxy", "apache2"]}),
        ("rules", {**scenario, "reapplied": 5}),
        ("check", {**scenario, "name": "services.renewed", "verdict": "passed"}),
        (
            "probe",
            {**scenario, "name": "http", "started": 1.0, "ended": 9.0, "sent": 400, "lost": 3,
             "longest_gap_ms": 61.4, "budget_ms": 100, "gaps": [[3.0, 3.0614]]},
        ),
        ("scenario_finished", {**scenario, "verdict": "passed", "seconds": 8.0}),
        ("run_finished", {"verdict": "passed"}),
    )  # fmt: skip


def failing(reason: str = "apache2 kept its old process", **check: object) -> list[Event]:
    return events(
        ("scenario_started", {"scenario": "S"}),
        (
            "check",
            {"scenario": "S", "name": "services.renewed", "verdict": "failed", "reason": reason, **check},
        ),
        ("scenario_finished", {"scenario": "S", "verdict": "passed"}),
        ("run_finished", {"verdict": "passed"}),
    )


def terminal(rows: list[Event]) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160, force_terminal=False).print(render_table(build(rows)))
    return stream.getvalue()


def test_a_row_shows_services_rules_gap_and_verdict() -> None:
    (row,) = build(good_run()).scenarios
    assert (row.services, row.rules, row.longest_gap_ms, row.verdict) == (
        ("haproxy", "apache2"), 5, 61.4, "passed",
    )  # fmt: skip
    text = terminal(good_run())
    for cell in ("router-from-4.21-live-patch", "haproxy, apache2", "61 ms", "8.0", "passed"):
        assert cell in text


def test_a_scenario_cannot_pass_over_a_failed_check() -> None:
    report = build(failing())
    assert report.verdict == "failed"
    assert report.scenarios[0].reason == "services.renewed: apache2 kept its old process"
    assert "apache2 kept its old process" in terminal(failing())


def test_a_run_that_stops_in_the_middle_is_an_error_that_names_the_last_step() -> None:
    report = build(good_run()[:3])
    assert report.verdict == "error"
    assert report.scenarios[0].verdict == "error"
    assert report.scenarios[0].reason == "no end is recorded; the last thing seen is patch"


def test_an_empty_log_is_an_error() -> None:
    assert build([]).verdict == "error"
    assert ET.fromstring(render_junit(build([]))).get("failures") == "0"
    assert ET.fromstring(render_junit(build([]))).get("errors") == "1"


def test_a_failed_check_outside_of_scenarios_fails_the_run() -> None:
    rows = events(
        ("check", {"name": "leftovers", "verdict": "failed", "reason": "one domain is left"}),
        ("run_finished", {"verdict": "passed"}),
    )
    assert build(rows).verdict == "failed"
    assert ET.fromstring(render_junit(build(rows))).find(".//testcase[@name='leftovers']/failure") is not None


def test_junit_counts_add_up() -> None:
    rows = [
        *failing()[:-1],
        *events(("scenario_finished", {"scenario": "K", "verdict": "skipped", "reason": "no Java"})),
    ]
    root = ET.fromstring(render_junit(build([*rows, failing()[-1]])))
    suites = root.findall("testsuite")
    assert root.get("tests") == str(len(root.findall(".//testcase")))
    assert [suite.get("name") for suite in suites] == ["S", "K", "run"]
    assert root.get("skipped") == "1"
    assert root.find(".//testsuite[@name='K']//skipped").get("message") == "no Java"
    assert root.find(".//testsuite[@name='S']/testcase[@name='services.renewed']/failure") is not None


def test_junit_carries_no_character_that_xml_forbids() -> None:
    root = ET.fromstring(render_junit(build(failing(HOSTILE, details=[HOSTILE]))))
    failure = root.find(".//testcase[@name='services.renewed']/failure")
    assert failure is not None
    assert "<script>alert(1)</script>" in str(failure.text)
    assert "\x1b" not in str(failure.text)


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def parse(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


def test_hostile_output_makes_no_element_of_the_page() -> None:
    own = {"scenario": HOSTILE, "name": HOSTILE}
    rows = events(
        ("run", {"facts": {"command": HOSTILE}}),
        ("scenario_started", {"scenario": HOSTILE, "title": HOSTILE}),
        ("step_started", own),
        (
            "probe",
            {**own, "started": 0, "ended": 1, "sent": 1, "lost": 0, "longest_gap_ms": 0},
        ),
        ("check", {**own, "verdict": "failed", "reason": HOSTILE, "details": [HOSTILE]}),
    )  # fmt: skip
    page = render_html(build(rows, name=HOSTILE))
    scripts = [attributes.get("type") for tag, attributes in parse(page).seen if tag == "script"]
    assert scripts == ["application/json", "text/plain", None]
    assert "{{ 7*7 }}" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\ud800]", page)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    tags = parse(render_html(build(failing()))).seen
    assert not [name for _, attributes in tags for name in attributes if name in {"src", "srcset", "onclick"}]
    links = [str(attributes["href"]) for _, attributes in tags if "href" in attributes]
    assert "#S" in links
    assert all(link.startswith("#") for link in links)


def test_the_drawing_shows_gaps_and_steps_on_one_clock() -> None:
    (drawing,) = drawings(build(good_run()).scenarios[0])
    bars = {bar.kind: bar for lane in drawing.lanes for bar in lane.bars}
    assert (drawing.start, drawing.seconds) == (1.0, 8.0)
    assert (bars["gap"].begin, bars["gap"].end) == (2.0, 2.061)
    assert (bars["step"].begin, bars["step"].end) == (1.0, 2.5)
    assert (bars["answers"].begin, bars["answers"].end) == (0.0, 8.0)


def test_what_a_run_says_of_itself_is_at_the_top() -> None:
    assert build(good_run()).facts == {"command": "sysvm run", "types": "router, ilbvm"}
    assert "<dt>types</dt><dd>router, ilbvm</dd>" in render_html(build(good_run()))


def test_a_table_and_a_drawing_without_probes_say_so() -> None:
    assert gap_text(None) == "-"
    assert gap_text(21800) == "21.8 s"
    assert drawings(build(failing()).scenarios[0]) == ()


def test_markup_and_escape_sequences_of_a_guest_do_not_reach_the_terminal() -> None:
    text = terminal(failing(HOSTILE.replace("\ud800", "")))
    assert "[bold]" in text
    assert "\x1b" not in text


def test_the_command_makes_the_views_again(tmp_path: Path) -> None:
    run = results.create(tmp_path, "one")
    with EventLog(run.events) as log:
        for event in good_run():
            log.emit(event.kind, **event.fields)
    outcome = CliRunner().invoke(sysvm, ["report", "one", "--results", str(tmp_path)], standalone_mode=False)
    assert outcome.return_value == 0, outcome.output
    assert "router-from-4.21-live-patch" in outcome.output
    first = (run.folder / "report.html").read_bytes()
    assert write(run).verdict == "passed"
    assert (run.folder / "report.html").read_bytes() == first
    assert (run.folder / "junit.xml").is_file()


def test_text_that_is_no_unicode_can_still_be_written(tmp_path: Path) -> None:
    run = results.create(tmp_path, "one")
    with EventLog(run.events) as log:
        log.emit("check", name="x", verdict="failed", reason="\ud800")
    assert write(run).verdict == "error"
    assert "\\ud800" in (run.folder / "report.html").read_text()


def test_every_view_says_which_template_a_scenario_ran_on() -> None:
    label = "4.15.1 on Debian 11 slim (stand-in base)"
    rows = [*events(("template", {"scenario": "router-from-4.21-live-patch", "label": label})), *good_run()]
    assert label.split(" on ")[0] in terminal(rows)
    assert "stand-in" in terminal(rows)
    assert label in render_html(build(rows))
    properties = ET.fromstring(render_junit(build(rows))).iter("property")
    assert ("template", label) in {(row.get("name"), row.get("value")) for row in properties}


def test_the_facts_of_several_cells_stand_side_by_side() -> None:
    facts = ({"path": "router from 4.15"}, {"path": "ilbvm from 4.15"}, {"path": "router from 4.15"})
    report = build(events(*(("run", {"facts": row}) for row in facts)))
    assert report.facts == {"path": "router from 4.15; ilbvm from 4.15"}


def test_a_run_that_skipped_everything_has_not_passed() -> None:
    rows = events(
        ("scenario_started", {"scenario": "S"}),
        ("scenario_finished", {"scenario": "S", "verdict": "skipped", "reason": "it runs 4.22 already"}),
        ("run_finished", {"verdict": "passed"}),
    )
    assert build(rows).verdict == "skipped"
    assert "S: it runs 4.22 already" in terminal(rows)
