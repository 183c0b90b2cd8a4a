"""Runs to look at: recorded ones of the product, and large ones made of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.record.results import ResultsFolder
from harness.report import load
from harness.report.rows import RunReport, ScenarioRow

# ``main-job``: sysvm run --type router. ``broken-bundle``: the same for a bundle whose haproxy does not know a word.
DATA = Path(__file__).parents[3] / "data" / "runs"
TYPES = ("router", "vpcrouter", "ilbvm", "elbvm", "secstorage", "consoleproxy", "dhcpsrvr", "userdata")
RELEASES = tuple(f"4.{number}" for number in range(11, 21))


def recorded(name: str) -> RunReport:
    """Return the report of a recorded run."""
    return load(ResultsFolder(DATA / name))


def many(count: int, failing: int) -> RunReport:
    """Return a report of so many scenarios, made of recorded ones with times of their own.

    Args:
        count: of scenarios, spread over eight VM types and ten releases.
        failing: how many of them failed as the recorded one did; they are spread, too.
    """
    chance = random.Random(count)
    passed = recorded("main-job").scenarios
    broken = recorded("broken-bundle").scenarios[0]
    cells = itertools.cycle(itertools.product(RELEASES, TYPES))
    every = count // failing if failing else count + 1
    rows = []
    for number, (release, vm_type) in zip(range(count), cells, strict=False):
        source = broken if failing and number % every == every // 2 else passed[number % len(passed)]
        name = f"{vm_type}-from-{release}-S{number:04}-{source.id.partition('-from-4.21-')[2]}"
        row = replace(_later(source, chance), id=name, vm_type=vm_type, from_release=release)
        rows.append(row)
    return _run(rows)


def _run(rows: Sequence[ScenarioRow]) -> RunReport:
    whole = recorded("broken-bundle")
    failed = sum(row.verdict == "failed" for row in rows)
    return replace(
        whole,
        name=f"{len(rows)}-scenarios",
        scenarios=tuple(rows),
        verdict="failed" if failed else "passed",
        reason=f"did not hold: {failed} scenarios" if failed else "",
    )


def _later(row: ScenarioRow, chance: random.Random) -> ScenarioRow:
    """Return a scenario as it would be at another time: no two have the same times."""
    later, factor = chance.uniform(0, 9000), chance.uniform(0.8, 1.3)

    def at(t: float) -> float:
        return row.t + later + (t - row.t) * factor + chance.uniform(0, 0.01)

    return replace(
        row,
        t=row.t + later,
        seconds=(row.seconds or 0) * factor,
        steps=tuple(replace(step, t=at(step.t), seconds=(step.seconds or 0) * factor) for step in row.steps),
        probes=tuple(
            replace(
                probe, started=at(probe.started), ended=at(probe.ended), sent=probe.sent + chance.randrange(20),
                longest_gap_ms=round(probe.longest_gap_ms * factor, 1),
                gaps=tuple((at(a), at(b)) for a, b in probe.gaps),
            )
            for probe in row.probes
        ),
        patches=tuple(
            replace(
                patch, t=at(patch.t), phases=tuple(replace(span, t=at(span.t)) for span in patch.phases),
                services=tuple(replace(span, t=at(span.t)) for span in patch.services),
                said=tuple((at(t), text) for t, text in patch.said),
            )
            for patch in row.patches
        ),
    )  # fmt: skip
