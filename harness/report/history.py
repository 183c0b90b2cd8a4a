"""Earlier runs: how long each scenario took."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

from bundle.errors import UsageError
from harness.record.events import read
from harness.report.assembly import build

# Runs that are looked at, the newest first: a machine changes.
_RUNS = 10


def durations(root: Path) -> dict[str, list[float]]:
    """Return the seconds that scenarios took in the newest runs of a folder, from their begin to their end, by id.

    Skipped ones took no time worth knowing, and a run that cannot be read tells nothing.
    """
    logs = sorted(
        (path for path in root.glob("*/events.jsonl") if not path.parent.is_symlink()), reverse=True
    )
    return durations_of(logs[:_RUNS])


def durations_of(logs: Iterable[Path]) -> dict[str, list[float]]:
    """Return what :func:`durations` says of some event logs."""
    found: dict[str, list[float]] = {}
    for log in logs:
        try:
            report = build(read(log))
        except UsageError:
            continue
        for row in report.scenarios:
            if row.seconds is not None and row.verdict in {"passed", "failed"}:
                found.setdefault(row.id, []).append(row.seconds)
    return found


def cost_of(identifier: str, name: str, known: Mapping[str, list[float]]) -> float | None:
    """Return what a scenario took, in seconds: the median of its own runs, else of those in other cells, else None."""
    own = known.get(identifier)
    if own:
        return statistics.median(own)
    others = [value for other, values in known.items() if other.endswith(f"-{name}") for value in values]
    return statistics.median(others) if others else None
