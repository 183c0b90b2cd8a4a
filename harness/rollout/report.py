"""The reports of a rollout: JUnit, a page, ``run.json`` and Markdown, by the renderers of every other run.

A unit that was tried again counts by its last attempt; one that was not begun is skipped. The journal keeps all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bundle import files
from harness.record.events import Event, read_with_gaps
from harness.record.results import ResultsFolder
from harness.report import RunReport, build
from harness.report.formats import formats
from harness.report.rows import ScenarioRow, Verdict
from harness.rollout.journal import State, fold
from harness.rollout.words import plain

_WORDS: tuple[Verdict, ...] = ("passed", "failed", "error", "skipped")
NOT_BEGUN = "not begun"


@dataclass(frozen=True)
class Told:
    """A rollout's report and what its journal says."""

    report: RunReport
    state: State

    def units(self, verdict: Verdict) -> tuple[ScenarioRow, ...]:
        """Return the units that ended so."""
        return tuple(row for row in self.report.scenarios if row.verdict == verdict)


def load(results: ResultsFolder) -> Told:
    """Return the report of a rollout.

    Raises:
        UsageError: its journal is missing, or is none of a rollout.
    """
    events, skipped = read_with_gaps(results.events)
    state = fold(events, results.name)
    report = build(last_attempts(events), results.name, skipped)
    return Told(_with_the_rest(report, state), state)


def last_attempts(events: Sequence[Event]) -> list[Event]:
    """Return the events without those of attempts that were followed by another, or that were put back.

    Checks that were made twice, because a rollout was killed between them and the unit's end, count once.
    """
    last: dict[str, int] = {}
    checks: dict[tuple[str, str, str], int] = {}
    for place, event in enumerate(events):
        unit, attempt = event.get("unit"), event.get("attempt")
        if not isinstance(unit, str) or not isinstance(attempt, int):
            continue
        if event.kind == "scenario_started":
            last[unit] = attempt
        elif event.kind == "rollout_put_back":
            last[unit] = attempt + 1
        elif event.kind == "check":
            checks[unit, str(event.get("name")), str(event.get("occasion"))] = place
    return [event for place, event in enumerate(events) if _counts(place, event, last, checks)]


def _counts(place: int, event: Event, last: dict[str, int], checks: dict[tuple[str, str, str], int]) -> bool:
    unit, attempt = event.get("unit"), event.get("attempt")
    if not isinstance(unit, str) or not isinstance(attempt, int):
        return True
    if attempt < last.get(unit, 0):
        return False
    if event.kind != "check":
        return True
    return checks[unit, str(event.get("name")), str(event.get("occasion"))] == place


def _with_the_rest(report: RunReport, state: State) -> RunReport:
    """Add the units that were not begun; and let a unit whose job may still run be what its own end says."""
    there = {row.id for row in report.scenarios}
    rest = [
        ScenarioRow(
            placed.unit.slug,
            title=placed.unit.title,
            vm_type=placed.unit.kind,
            to_release=state.target.release,
            verdict="skipped",
            reason=NOT_BEGUN,
        )
        for placed in state.placed
        if placed.unit.slug not in there
    ]
    return replace(report, scenarios=(*report.scenarios, *rest))


def write(results: ResultsFolder) -> Told:
    """Write the files of all formats of a rollout, and ``report.md``, and return what they say.

    Raises:
        UsageError: its journal is missing, or is none of a rollout.
        InfrastructureError: a file cannot be written.
    """
    told = load(results)
    for each in formats():
        files.write(results.folder / each.file, each.render(told.report))
    files.write(page(results), markdown(told))
    return told


def lines(told: Told) -> list[str]:
    """Return what stands where, a line each, for a terminal: how it ended, then what a person has to look at."""
    report = told.report
    counts = ", ".join(f"{len(told.units(word))} {word}" for word in _WORDS)
    found = [f"{report.name}: {report.verdict}: {report.reason}", f"{len(report.scenarios)} units: {counts}"]
    for row in (*told.units("failed"), *told.units("error")):
        found.append(f"{row.verdict}: {row.title or row.id}: {row.reason}")
    begun = [row for row in told.units("skipped") if row.reason != NOT_BEGUN]
    return [*found, *(f"skipped: {row.title or row.id}: {row.reason}" for row in begun)]


def page(results: ResultsFolder) -> Path:
    """Return where the report in Markdown lies."""
    return results.folder / "report.md"


def markdown(told: Told) -> str:
    """Return what stands where, as one page of Markdown."""
    report = told.report
    lines = [f"# Live patch of the system VMs: {report.name}: {report.verdict}", ""]
    lines += [f"{plain(report.reason)}", ""] if report.reason else []
    lines += [f"* {plain(name)}: {plain(value)}" for name, value in report.facts.items()]
    counts = ", ".join(f"{len(told.units(word))} {word}" for word in _WORDS)
    lines += [f"* begun {report.started_at}; {len(report.scenarios)} units: {counts}", ""]
    lines += ["| unit | verdict | seconds | why |", "|---|---|---|---|"]
    for row in sorted(report.scenarios, key=lambda row: (row.verdict in {"passed", "skipped"}, row.t)):
        seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
        lines.append(f"| {plain(row.title or row.id)} | {row.verdict} | {seconds} | {plain(row.reason)} |")
    for row in (*told.units("failed"), *told.units("error")):
        lines += ["", f"## {plain(row.title or row.id)}", ""]
        for check in row.checks:
            lines.append(
                f"* {plain(check.name)}: {check.verdict}{': ' if check.reason else ''}{plain(check.reason)}"
            )
            lines += [f"  * {plain(line)}" for line in check.details]
    return "\n".join([*lines, ""])
