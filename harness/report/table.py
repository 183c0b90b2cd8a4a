"""The terminal view: one line a scenario, the reasons below."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.report.model import RunReport, ScenarioRow, Verdict

_STYLE: dict[Verdict, str] = {
    "passed": "green",
    "failed": "bold red",
    "error": "bold red",
    "skipped": "yellow",
}


def render_table(report: RunReport) -> RenderableType:
    """Return what ``rich`` prints for a run. All text is shown as it is: no markup of a guest is obeyed."""
    table = Table(
        title=Text(f"{report.name}: {report.verdict} in {report.seconds:.1f} s"), title_justify="left"
    )
    for column in (
        "scenario",
        "template",
        "services restarted",
        "rules",
        "longest gap",
        "checks",
        "seconds",
        "verdict",
    ):
        right = column in {"rules", "longest gap", "checks", "seconds"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for scenario in report.scenarios:
        table.add_row(*_cells(scenario))
    lines: list[RenderableType] = [table]
    lines += [_reason(scenario) for scenario in report.scenarios if scenario.reason]
    if report.reason:
        lines.append(Text(f"run: {report.reason}", style=_STYLE[report.verdict]))
    return Group(*lines)


def _cells(scenario: ScenarioRow) -> list[Text]:
    verdict: Verdict = scenario.verdict or "error"
    held = len(scenario.checks) - len(scenario.failures)
    values = [
        _one_line(scenario.id),
        _one_line(scenario.template) or "-",
        ", ".join(scenario.services) or "-",
        "-" if scenario.rules is None else str(scenario.rules),
        gap_text(scenario.longest_gap_ms),
        f"{held}/{len(scenario.checks)}",
        "-" if scenario.seconds is None else f"{scenario.seconds:.1f}",
    ]
    return [*(Text(value) for value in values), Text(verdict, style=_STYLE[verdict])]


def _reason(scenario: ScenarioRow) -> Text:
    return Text(
        f"{_one_line(scenario.id)}: {_one_line(scenario.reason)}", style=_STYLE[scenario.verdict or "error"]
    )


def gap_text(milliseconds: float | None) -> str:
    """Return a gap for people: ``-`` without probes, ``0 ms``, ``21.8 s``."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text.replace("\n", " "))
