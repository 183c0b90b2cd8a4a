"""The terminal view: one line a scenario, or two where the terminal is narrow; the reasons below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bundle.sink import cell, one_line
from harness.report.rows import RunReport, ScenarioRow, Verdict

_STYLE: dict[Verdict, str] = {
    "passed": "green",
    "failed": "bold red",
    "error": "bold red",
    "skipped": "yellow",
}
_COLUMNS = (
    "scenario", "template", "services restarted", "rules", "longest gap", "passed", "failed", "skipped", "seconds",
    "verdict",
)  # fmt: skip
_NUMBERS = {"rules", "longest gap", "passed", "failed", "skipped", "seconds"}


def render_table(report: RunReport) -> RenderableType:
    """Return what ``rich`` prints for a run. All text is shown as it is: no markup of a guest is obeyed."""
    title = cell(f"{report.name}: {report.verdict} in {report.seconds:.1f} s", "bold")
    lines: list[RenderableType] = [title]
    if report.scenarios:
        lines.append(_Scenarios(report.scenarios))
    lines += [_reason(scenario) for scenario in report.scenarios if scenario.reason]
    if report.reason:
        lines.append(cell(f"run: {report.reason}", _STYLE[report.verdict]))
    return Group(*lines)


@dataclass(frozen=True)
class _Scenarios:
    """The scenarios: a table where it fits, else two lines each; an id is never broken."""

    rows: Sequence[ScenarioRow]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table()
        if Measurement.get(console, options.update(max_width=10_000), table).maximum <= options.max_width:
            yield table
            return
        for row in self.rows:
            yield from _two_lines(row)

    def _table(self) -> Table:
        table = Table()
        for column in _COLUMNS:
            table.add_column(column, justify="right" if column in _NUMBERS else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*_cells(row))
        return table


def _cells(row: ScenarioRow) -> list[Text]:
    verdict: Verdict = row.verdict or "error"
    values = [
        row.id,
        row.template or "-",
        ", ".join(row.services) or "-",
        "-" if row.rules is None else str(row.rules),
        gap_text(row.longest_gap_ms),
        *(str(len(checks)) for checks in (row.held, row.failures, row.skipped)),
        "-" if row.seconds is None else f"{row.seconds:.1f}",
    ]
    return [*map(cell, values), cell(verdict, _STYLE[verdict])]


def _two_lines(row: ScenarioRow) -> RenderResult:
    verdict: Verdict = row.verdict or "error"
    took = "" if row.seconds is None else f" in {row.seconds:.1f} s"
    first = Text.assemble(one_line(row.id), ": ", (verdict, _STYLE[verdict]), took)
    # A terminal that is narrower than an id breaks the line itself; the id can still be copied whole.
    first.no_wrap, first.overflow = True, "ignore"
    yield first
    rules = "" if row.rules is None else f"{row.rules} rules"
    gap = "" if row.longest_gap_ms is None else f"longest gap {gap_text(row.longest_gap_ms)}"
    restarted = f"restarted {', '.join(row.services)}" if row.services else ""
    facts = [row.template, restarted, rules, gap, counts_text(row)]
    yield Padding(cell("; ".join(filter(None, facts))), (0, 0, 0, 4))


def counts_text(row: ScenarioRow) -> str:
    """Return how many checks passed, failed and were skipped, for people."""
    known = f", {len(row.known)} known failures" if row.known else ""
    return f"{len(row.held)} passed, {len(row.failures)} failed{known}, {len(row.skipped)} skipped"


def _reason(scenario: ScenarioRow) -> Text:
    return cell(f"{scenario.id}: {scenario.reason}", _STYLE[scenario.verdict or "error"])


def gap_text(milliseconds: float | None) -> str:
    """Return a gap for people: ``-`` without probes, ``0 ms``, ``21.8 s``."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
