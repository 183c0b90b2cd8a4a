"""Repeating a scenario of an earlier run: which one, and with which options."""

from __future__ import annotations

from pathlib import Path

from bundle.errors import UsageError
from harness.report.rows import RunReport, ScenarioRow

# Options of a run that a repetition takes over as they are; the cell's own are taken from the scenario.
OPTIONS = (
    "--to", "--debian", "--network", "--bundle", "--source", "--script", "--agent-jars", "--from-bundle",
    "--from-source", "--template", "--scenario-seed", "--scenario-times",
)  # fmt: skip
_PATHS = ("--bundle", "--network", "--source", "--agent-jars", "--from-bundle", "--from-source")


def choose(report: RunReport, wanted: str | None) -> ScenarioRow:
    """Return the scenario to repeat.

    Args:
        report: of the earlier run.
        wanted: its id or a part of it; None takes the only one that failed.

    Raises:
        UsageError: none or several fit; names those that there are.
    """
    if wanted is None:
        found = [row for row in report.scenarios if row.verdict in {"failed", "error"}]
        what = "that failed"
    else:
        exact = [row for row in report.scenarios if row.id == wanted]
        found = exact or [row for row in report.scenarios if wanted.lower() in row.id.lower()]
        what = f"named {wanted!r}"
    if len(found) == 1:
        return found[0]
    there = ", ".join(row.id for row in found or report.scenarios) or "none"
    count = "several scenarios" if found else "no scenario"
    raise UsageError(f"{report.name} has {count} {what}", hint=f"name one of: {there}")


def arguments_of(report: RunReport, row: ScenarioRow) -> list[str]:
    """Return the plugin's options that repeat a scenario.

    Raises:
        UsageError: the bundle or the network of the run is gone.
    """
    taken = {name: value for name, value in report.options.items() if name in OPTIONS and value}
    for name in _PATHS:
        value = taken.get(name, "")
        if value.startswith("/") and not Path(value).exists():
            raise UsageError(f"the run used {name} {value}, which is gone")
    chosen = {
        **taken,
        "--type": row.vm_type,
        "--from": row.from_release,
        "--to": row.to_release,
        "--scenario": row.id,
    }
    return [*(f"{name}={value}" for name, value in chosen.items()), "-n", "0"]
