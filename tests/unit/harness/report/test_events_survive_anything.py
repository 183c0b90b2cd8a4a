"""Any event log is a report in every format, or one line: what a run has cost is not lost for one bad event."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import UsageError
from harness.record import results
from harness.report import load, write
from tests.fuzzing import damaged, damaged_text, fuzz, json_values
from tests.unit.harness.report.test_damaged import START, WELL

RECORDED = Path(__file__).parents[3] / "data" / "recorded-run" / "events.jsonl"
LINES = RECORDED.read_text("utf-8").splitlines()


def one_of_each_kind():
    """Return the recorded log's first and last line, and two events of each kind between them."""
    kept, seen = [], {}
    for line in LINES[1:-1]:
        kind = json.loads(line)["kind"]
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= 2:
            kept.append(line)
    return [LINES[0], *kept, LINES[-1]]


SHORT = one_of_each_kind()


def views(folder, text):
    """Write every view of a log; returns its verdict, or None where the log is told to be none."""
    run = results.ResultsFolder(folder / "run")
    run.folder.mkdir(exist_ok=True)
    run.events.write_bytes(text)
    try:
        report = write(run)
    except UsageError as error:
        assert "\n" not in error.diagnostics()
        return None
    ET.fromstring((run.folder / "junit.xml").read_text("utf-8"))
    assert json.loads((run.folder / "run.json").read_text("utf-8"))["verdict"] == report.verdict
    return report.verdict


def test_the_short_log_has_every_kind_of_event(tmp_path):
    assert {json.loads(line)["kind"] for line in SHORT} == {json.loads(line)["kind"] for line in LINES}
    assert views(tmp_path, "\n".join(SHORT).encode() + b"\n") is not None


@st.composite
def odd_logs(draw):
    """Draw a log with fields of some events exchanged for others, or left out."""
    rows = [json.loads(line) for line in SHORT]
    for at in draw(st.lists(st.integers(1, len(rows) - 1), min_size=1, max_size=3)):
        name = draw(st.sampled_from(sorted(rows[at])))
        if draw(st.booleans()):
            rows[at][name] = draw(json_values)
        else:
            other = draw(st.sampled_from(rows))
            rows[at][name] = other.get(name, draw(st.sampled_from(sorted(map(str, other)))))
    return "\n".join(json.dumps(row) for row in rows).encode() + b"\n"


@fuzz(12)
@given(text=odd_logs())
def test_any_field_of_any_event_is_shown_or_told(text, tmp_path):
    views(tmp_path, text)


@fuzz(8)
@given(
    text=damaged("\n".join(SHORT).encode())
    | damaged_text("\n".join(SHORT)).map(lambda t: t.encode("utf-8", "surrogatepass"))
)
def test_any_damage_of_a_log_is_shown_or_told(text, tmp_path):
    views(tmp_path, text)


@fuzz(60)
@given(
    value=json_values,
    at=st.integers(0, len(WELL) - 1),
    name=st.sampled_from(["kind", "verdict", "scenario", "t"]),
)
def test_no_value_of_a_field_makes_a_run_pass_that_did_not(value, at, name, tmp_path):
    """The log is that of a run with one failed check, of which one field becomes anything."""
    head = {"t": 1.0, "at": "2026-01-31T00:00:01+00:00"}
    rows = [
        {**head, **row, **({"verdict": "failed"} if row["kind"] != "scenario_started" else {})}
        for row in WELL
    ]
    rows[at][name] = value
    run = results.ResultsFolder(tmp_path)
    run.events.write_text("\n".join(json.dumps(row) for row in [START, *rows]) + "\n")
    try:
        assert load(run).verdict != "passed"
    except UsageError as error:
        assert "\n" not in error.diagnostics()
