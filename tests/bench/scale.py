"""How far a run scales over hosts: simulated, with durations that were recorded.

A matrix of 8 releases by 7 VM types, each cell of 60 scenarios, on 10, 100 and 1,000 hosts. Two ways are played: shards
of whole cells as ``sysvm run --shard`` deals them out (its own code does so here), and a queue of single scenarios,
whose hosts fetch golden snapshots from a depot. No command does the second yet: it tells what would be gained.
"""

from __future__ import annotations

import heapq
import itertools
import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.plugin.shards import assign

DATA = Path(__file__).parents[1] / "data"
RELEASES, TYPES, SCENARIOS = 8, 7, 60
HOSTS = (1, 5, 10, 20, 40, 56, 80, 100, 200, 400, 1000)
# Scenarios that a host has under way at once: those of one with two cores.
SLOTS = 2
# Seconds to make the golden snapshot of an emulated router (docs/getting-started.md), and to start a run.
GOLDEN_SECONDS, START_SECONDS = 30.0, 10.0
# One of a router as a depot keeps it, in megabytes, and the seconds to unpack it: measured.
PACKED_MB, UNPACK_SECONDS = 105.0, 1.5
# Megabytes a second that a depot gives in all and to one host: assumed, ten gigabits and one.
DEPOT_MB_S, HOST_MB_S = 1000.0, 100.0


@dataclass(frozen=True)
class Outcome:
    """The end of one simulated run: seconds until the last host is ready, snapshots that were made, and sent."""

    makespan: float
    made: int
    sent: int


def durations(seed: int = 1) -> dict[str, list[float]]:
    """Return the seconds of each scenario by cell, drawn from what was recorded; the same for the same seed."""
    recorded = tomllib.loads((DATA / "scenario-seconds.toml").read_text(encoding="utf-8"))["seconds"]
    draw = random.Random(seed)
    cells = [f"type{one}-from-release{two}" for one in range(TYPES) for two in range(RELEASES)]
    return {cell: draw.choices(sorted(recorded.values()), k=SCENARIOS) for cell in cells}


def shards(cells: dict[str, list[float]], hosts: int) -> Outcome:
    """Return what a run in shards takes: a host for each, and never more of them than there are cells."""
    count = min(hosts, len(cells))
    costs = {cell: GOLDEN_SECONDS + sum(seconds) / SLOTS for cell, seconds in cells.items()}
    own = assign(costs, count)
    ends = [START_SECONDS] * count
    for cell, number in own.items():
        ends[number - 1] += GOLDEN_SECONDS + _packed(cells[cell], SLOTS)
    return Outcome(max(ends), len(cells), 0)


def _packed(seconds: Sequence[float], slots: int) -> float:
    """Return when the last of some tasks ends that are taken one after the other by so many workers."""
    ends = [0.0] * slots
    for each in seconds:
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


@dataclass
class _Queue:
    """A queue of scenarios, and which host has which snapshot; times are seconds since the begin."""

    left: dict[str, list[float]]
    ready: dict[str, float] = field(default_factory=dict)  # when the first host has made it
    held: dict[tuple[int, str], float] = field(default_factory=dict)  # when a host has it
    depot_free: float = 0.0
    made: int = 0
    sent: int = 0

    def choose(self, host: int) -> str | None:
        """Return the cell that a host takes a scenario from: one that it has, one that nobody has, or the longest."""
        there = [cell for cell, rest in self.left.items() if rest]
        if not there:
            return None
        own = [cell for cell in there if (host, cell) in self.held]
        new = [cell for cell in there if cell not in self.ready]
        return max(own or new or there, key=lambda cell: (sum(self.left[cell]), cell))

    def obtain(self, host: int, cell: str, now: float) -> float:
        """Return when a host has the snapshot of a cell."""
        if (host, cell) in self.held:
            return max(now, self.held[host, cell])
        if cell not in self.ready:
            self.made += 1
            self.ready[cell] = self.held[host, cell] = now + GOLDEN_SECONDS
            return self.held[host, cell]
        # One after the other through the depot's line, and no faster than the host's own.
        begin = max(now, self.ready[cell], self.depot_free)
        self.depot_free = begin + PACKED_MB / DEPOT_MB_S
        self.sent += 1
        self.held[host, cell] = begin + PACKED_MB / HOST_MB_S + UNPACK_SECONDS
        return self.held[host, cell]


def queue(cells: dict[str, list[float]], hosts: int) -> Outcome:
    """Return what a run takes whose hosts take scenarios one by one, those of snapshots that they have first."""
    state = _Queue({cell: sorted(seconds) for cell, seconds in cells.items()})
    order = itertools.count()
    idle = [(START_SECONDS, next(order), host) for _ in range(SLOTS) for host in range(hosts)]
    heapq.heapify(idle)
    last = START_SECONDS
    while idle:
        now, _, host = heapq.heappop(idle)
        cell = state.choose(host)
        if cell is None:
            continue
        seconds = state.left[cell].pop()
        end = state.obtain(host, cell, now) + seconds
        last = max(last, end)
        heapq.heappush(idle, (end, next(order), host))
    return Outcome(last, state.made, state.sent)


def ideal(cells: dict[str, list[float]], hosts: int) -> float:
    """Return the total work, each snapshot made once, spread evenly over all slots: nothing can be faster."""
    work = sum(sum(seconds) + GOLDEN_SECONDS for seconds in cells.values())
    return START_SECONDS + work / SLOTS / hosts


def knee(rows: Sequence[tuple[int, float, float]]) -> int:
    """Return the last number of hosts of which at least half the work is not lost: the ideal over what it took."""
    return max(hosts for hosts, best, took in rows if best / took >= 0.5)


def main() -> None:
    """Print the makespan of both ways beside the ideal, and where each stops to scale."""
    cells = durations()
    count = sum(map(len, cells.values()))
    print(
        f"{len(cells)} cells, {count} scenarios, {ideal(cells, 1) / 3600:.1f} h on one host of {SLOTS} slots"
    )
    print(
        f"{'hosts':>6} {'ideal s':>9} {'shards s':>9} {'of ideal':>8} {'queue s':>9} {'of ideal':>8} {'sent':>6}"
    )
    rows = []
    for hosts in HOSTS:
        best, parts, single = ideal(cells, hosts), shards(cells, hosts), queue(cells, hosts)
        rows.append((hosts, best, parts.makespan, single.makespan))
        print(
            f"{hosts:6} {best:9.0f} {parts.makespan:9.0f} {best / parts.makespan:8.2f} {single.makespan:9.0f} "
            f"{best / single.makespan:8.2f} {single.sent:6}"
        )
    print(
        f"half the hosts' time is used up to {knee([(h, b, s) for h, b, s, _ in rows])} hosts in shards, and"
    )
    print(f"up to {knee([(h, b, q) for h, b, _, q in rows])} with a queue")
