"""Repeating a scenario of an earlier run: which one, and with which options."""

from __future__ import annotations

from pathlib import Path

from bundle.errors import UsageError
from harness.report.rows import RunReport, ScenarioRow

# Options of a run that a repetition takes over as they are; the cell's own are taken from the scenario.
OPTIONS = (
    "--to", "--debian", "--network", "--bundle", "--source", "--script", "--agent-jars", "--from-bundle",
    "--from-source", "--template", "--seed", "--times",
)  # fmt: skip
# What says which bundle is patched with.
_PATCHED_WITH = ("--bundle", "--source", "--script", "--agent-jars")
_PATHS = ("--bundle", "--network", "--source", "--agent-jars", "--from-bundle", "--from-source")


def choose(report: RunReport, wanted: str | None) -> ScenarioRow:
    """Return the scenario to repeat.

    Args:
        report: of the earlier run.
        wanted: its id, a part of it, or the id of a case of JUnit, which begins with it; None takes the only one that
            failed.

    Raises:
        UsageError: none or several fit; names those that there are.
    """
    if wanted is None:
        found = [row for row in report.scenarios if row.verdict in {"failed", "error"}]
        what = "that failed"
    else:
        begun = [row for row in report.scenarios if _names(wanted, row.id)]
        found = begun or [row for row in report.scenarios if wanted.lower() in row.id.lower()]
        what = f"named {wanted!r}"
    if len(found) == 1:
        return found[0]
    there = ", ".join(row.id for row in found or report.scenarios) or "none"
    count = "several scenarios" if found else "no scenario"
    raise UsageError(f"{report.name} has {count} {what}", hint=f"name one of: {there}")


def _names(wanted: str, identifier: str) -> bool:
    """Say whether a word is a scenario's id, alone or with a case behind it: ``ID.case`` or ``ID::case``."""
    return wanted == identifier or wanted.startswith((f"{identifier}.", f"{identifier}::"))


def tested_bundle(report: RunReport, row: ScenarioRow) -> dict[str, str]:
    """Return the SHA-256 of each file of the bundle that a scenario was run with; nothing where the run says none."""
    cell = f"{row.vm_type}-from-{row.from_release}"
    subject = next((subject for subject in report.subjects if subject.get("cell") == cell), {})
    bundle = subject.get("bundle")
    files = bundle.get("files") if isinstance(bundle, dict) else None
    return {str(name): str(digest) for name, digest in files.items()} if isinstance(files, dict) else {}


def arguments_of(report: RunReport, row: ScenarioRow, bundle: Path | None = None) -> list[str]:
    """Return the words of ``sysvm run`` that repeat a scenario.

    Args:
        report: of the earlier run.
        row: the scenario.
        bundle: patched with in place of what the run was patched with.

    Raises:
        UsageError: what the run used, or that bundle, is not on this machine.
    """
    if bundle is not None and not bundle.is_dir():
        raise UsageError(f"--bundle {bundle}: no such folder")
    taken = {name: value for name, value in report.options.items() if name in OPTIONS and value}
    if bundle is not None:
        taken = {name: value for name, value in taken.items() if name not in _PATCHED_WITH}
        taken["--bundle"] = str(bundle.absolute())
    for name in _PATHS:
        value = taken.get(name, "")
        if value.startswith("/") and not Path(value).exists():
            hint = "name the same bundle here: --bundle DIR" if name in _PATCHED_WITH else ""
            raise UsageError(f"the run used {name} {value}, which is not on this machine", hint=hint)
    chosen = {
        **taken,
        "--type": row.vm_type,
        "--from": row.from_release,
        "--to": row.to_release,
        "--scenario": row.id,
    }
    return [*(f"{name}={value}" for name, value in chosen.items()), "-n", "0"]
