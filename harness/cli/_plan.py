"""A run's plan: its scenarios, what they cost the last times, and what has to be made first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundle.errors import Exit
from bundle.sink import tell, tell_json
from harness.plugin.planning import Planned, plan
from harness.report.history import cost_of, durations


def tell_plan(arguments: Sequence[str], root: Path, workers: int, *, cost: bool, as_json: bool) -> int:
    """Print what a run would do.

    Args:
        arguments: options of the plugin.
        root: folder of all runs.
        workers: scenarios at the same time.
        cost: whether to say how long it took the last times.
        as_json: print JSON.

    Raises:
        UsageError: an argument cannot be meant, or nothing is chosen.
    """
    planned = plan(arguments)
    known = durations(root) if cost else {}
    rows = [_row(row, cost_of(row.id, row.declared.name, known) if cost else None) for row in planned]
    if as_json:
        tell_json(rows)
        return Exit.OK
    for row in rows:
        seconds = "" if not cost else f"  {_seconds(row['seconds'])}"
        tell(f"{row['id']}{seconds}{'  (skipped: ' + row['skipped'] + ')' if row['skipped'] else ''}")
    if cost:
        tell(_total(rows, workers))
    return Exit.OK


def _row(row: Planned, seconds: float | None) -> dict[str, Any]:
    return {
        "id": row.id,
        "type": row.vm_type,
        "from": row.from_release,
        "title": row.declared.title,
        "skipped": row.why_not,
        "seconds": None if row.why_not else seconds,
    }


def _seconds(value: float | None) -> str:
    return "not known" if value is None else f"{value:.0f} s"


def _total(rows: Sequence[dict[str, Any]], workers: int) -> str:
    """Return the last line: how many run, how many are skipped, and what the known ones cost."""
    run = [row for row in rows if not row["skipped"]]
    known = [row["seconds"] for row in run if row["seconds"] is not None]
    cells = {(row["type"], row["from"]) for row in run}
    line = f"{len(run)} of {len(rows)} scenarios would run, in {len(cells)} cells"
    if not known:
        return f"{line}; no earlier run says how long they take"
    hours = sum(known) / max(workers, 1)
    unknown = len(run) - len(known)
    more = f", and {unknown} of unknown length" if unknown else ""
    return f"{line}: about {hours:.0f} s with {max(workers, 1)} at a time, by the last runs{more}"
