"""Measurements of earlier runs: how long a unit took in rollouts, and for how long services were away in tests."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundle.errors import UsageError
from harness.record.events import Event, read
from harness.report import build

# Runs that are looked at, the newest first.
_RUNS = 20
# Seconds for one VM when nothing was measured: a patch of a minute, and half a minute to verify it.
ASSUMED = 90.0


@dataclass(frozen=True)
class Measured:
    """Figures that earlier runs tell.

    Attributes:
        seconds: median seconds for one VM, by kind of unit.
        gaps: longest gap of traffic in milliseconds that any test saw, by VM type.
        sources: how many units and tests that rests on.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    gaps: Mapping[str, float] = field(default_factory=dict)
    sources: tuple[int, int] = (0, 0)

    def cost(self, kind: str, patches: int) -> float:
        """Return the seconds that a unit is expected to take."""
        return self.seconds.get(kind, ASSUMED) * max(patches, 1)


def measured(root: Path, release: str) -> Measured:
    """Return what the newest runs of a results folder measured; one that cannot be read tells nothing.

    Args:
        root: folder of all runs.
        release: to which a test must have patched for its gaps to count.
    """
    seconds: dict[str, list[float]] = {}
    gaps: dict[str, float] = {}
    tests = 0
    logs = sorted(
        (path for path in root.glob("*/events.jsonl") if not path.parent.is_symlink()), reverse=True
    )
    for log in logs[:_RUNS]:
        try:
            events = read(log)
            rows = build(events).scenarios
        except UsageError:
            continue
        for kind, each in _units(events):
            seconds.setdefault(kind, []).append(each)
        for row in rows:
            gap = row.longest_gap_ms
            if gap is not None and row.vm_type and row.verdict == "passed" and _same(row.to_release, release):
                gaps[row.vm_type] = max(gaps.get(row.vm_type, 0.0), gap)
                tests += 1
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    return Measured(medians, gaps, (sum(map(len, seconds.values())), tests))


def _units(events: list[Event]) -> list[tuple[str, float]]:
    """Return kind and seconds for one VM of every unit that a rollout has patched well."""
    found = []
    for event in events:
        kind, patches, seconds = event.get("unit_kind"), event.get("patches"), event.get("seconds")
        if event.kind != "scenario_finished" or event.get("verdict") != "passed" or not event.get("patched"):
            continue
        if (
            isinstance(kind, str)
            and isinstance(patches, int)
            and isinstance(seconds, int | float)
            and patches > 0
        ):
            found.append((kind, float(seconds) / patches))
    return found


def _same(one: str, two: str) -> bool:
    return bool(one) and one.split(".")[:2] == two.split(".")[:2]
