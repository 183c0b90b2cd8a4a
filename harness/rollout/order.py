"""The order of a rollout, and which unit may begin now: one a host, one system VM a zone, one stage after the other."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from harness.rollout.clock import Window
from harness.rollout.units import KINDS, PatchUnit

CANARIES = "canaries"


@dataclass(frozen=True)
class Placed:
    """A unit in its stage, with the seconds that it is expected to take."""

    unit: PatchUnit
    stage: int
    seconds: float


@dataclass(frozen=True)
class RolloutLimits:
    """The limits of a run.

    Attributes:
        at_once: how many units at the same time.
        pause: seconds that a place rests after a unit.
        window: the hours in which a unit may begin and is expected to end; None for any.
        most: how many units may begin; None for all.
        max_failures: how many failures end the run.
    """

    at_once: int = 1
    pause: float = 0.0
    window: Window | None = None
    most: int | None = None
    max_failures: int = 1

    def may_begin(self, now: datetime, seconds: float) -> bool:
        """Say whether a unit that takes so long may begin now."""
        return self.window is None or (self.window.is_open(now) and seconds <= self.window.left(now))


def stages(
    units: Iterable[PatchUnit], canaries: Collection[str], cost: Mapping[str, float]
) -> tuple[Placed, ...]:
    """Return units in the order in which they are patched.

    Args:
        units: all of them.
        canaries: ids of those that come first.
        cost: seconds by unit id.
    """
    ordered = sorted(units, key=lambda unit: unit.rank)
    rows = [
        Placed(unit, 0 if unit.id in canaries else 1 + KINDS.index(unit.kind), cost[unit.id])
        for unit in ordered
    ]
    return tuple(sorted(rows, key=lambda row: row.stage))


def choose_canaries(units: Iterable[PatchUnit]) -> frozenset[str]:
    """Return the smallest unit of each kind and zone; of system VMs, of each type and zone."""
    smallest: dict[tuple[str, str, str], PatchUnit] = {}
    for unit in sorted(units, key=lambda unit: unit.rank):
        key = (unit.kind, unit.zone, unit.members[0].kind if unit.kind == "system VM" else "")
        if key not in smallest or unit.patches < smallest[key].patches:
            smallest[key] = unit
    return frozenset(unit.id for unit in smallest.values())


def stage_name(stage: int) -> str:
    """Return what a stage is called."""
    return f"{KINDS[stage - 1]}s" if stage else CANARIES


def conflicts(unit: PatchUnit, hosts: Collection[str], running: Iterable[PatchUnit]) -> bool:
    """Say whether a unit may not run beside others.

    Args:
        unit: the unit.
        hosts: those that its VMs are on.
        running: the units that run.
    """
    for other in running:
        if set(hosts) & other.hosts:
            return True
        if unit.kind == other.kind == "system VM" and unit.zone == other.zone:
            return True
        # A VM whose host nobody knows may be on any of them.
        if any(not member.host for one in (unit, other) for member in one.reached):
            return True
    return False


@dataclass
class Line:
    """The units that wait for their turn, stage by stage."""

    waiting: deque[Placed]

    @classmethod
    def of(cls, placed: Sequence[Placed]) -> Line:
        """Return a line in the given order."""
        return cls(deque(placed))

    def next(self, running: Sequence[Placed], passed_over: Collection[str] = ()) -> Placed | None:
        """Return the first unit that may begin beside those that run, and take it out of the line.

        Units of a later stage wait until every unit of the earlier ones has ended.

        Args:
            running: the units that run.
            passed_over: ids of units that were tried just now and have to wait.
        """
        if not self.waiting:
            return None
        stage = self.waiting[0].stage
        if any(row.stage < stage for row in running):
            return None
        units = [row.unit for row in running]
        for index, row in enumerate(self.waiting):
            if row.stage != stage:
                return None
            if row.unit.id not in passed_over and not conflicts(row.unit, row.unit.hosts, units):
                del self.waiting[index]
                return row
        return None

    def put_back(self, row: Placed) -> None:
        """Put a unit back to the front of the line: it was its turn."""
        self.waiting.appendleft(row)


@dataclass(order=True)
class _End:
    at: datetime
    number: int
    row: Placed = field(compare=False)


def estimate(placed: Sequence[Placed], limits: RolloutLimits, start: datetime) -> float | None:
    """Return the seconds that a rollout takes by its limits; None when a unit fits into no window."""
    if limits.window is not None and any(row.seconds > limits.window.length for row in placed):
        return None
    line, running, now, number = Line.of(placed), list[_End](), start, 0
    while line.waiting or running:
        if len(running) < limits.at_once and line.waiting:
            row = line.next([end.row for end in running])
            if row is not None and limits.may_begin(now, row.seconds):
                number += 1
                heapq.heappush(
                    running, _End(now + timedelta(seconds=row.seconds + limits.pause), number, row)
                )
                continue
            if row is not None:
                line.put_back(row)
        if running:
            now = max(now, heapq.heappop(running).at)
        elif limits.window is not None:
            # Nothing runs, and nothing may begin: the next chance is the next opening.
            still = limits.window.left(now) if limits.window.is_open(now) else 0.0
            closed = now + timedelta(seconds=still)
            now = closed + timedelta(seconds=max(limits.window.wait(closed), 1.0))
        else:
            return None
    return (now - start).total_seconds()
