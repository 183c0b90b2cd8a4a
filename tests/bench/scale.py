"""How far a run scales over hosts: simulated, with durations that were recorded.

A matrix of 8 releases by 7 VM types, each cell of 60 scenarios, on 10, 100 and 1,000 hosts. Two ways are played: shards
of whole cells as ``sysvm run --shard`` deals them out, and hosts of a cluster as ``sysvm run --on`` does, who fetch
golden snapshots from each other. The code that deals is that of these commands.
"""

from __future__ import annotations

import heapq
import itertools
import random
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.plugin.cluster.dealing import Dealer, Piece, Seat
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
# Megabytes a second that a host gives to others: assumed, a gigabit.
HOST_MB_S = 100.0
# Seconds until a seat begins its first scenario, beside those for the snapshot: assumed.
SEAT_SECONDS = 5.0


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
class _Hosts:
    """Hosts of a cluster as time goes by: what is under way, and when; the dealing is the run's own code.

    Attributes:
        left: seconds of each scenario by its id.
        now: seconds since the begin.
        lines: when each host's line is free again, of those that give snapshots to others.
    """

    left: dict[str, float]
    dealer: Dealer = field(default_factory=Dealer)
    now: float = START_SECONDS
    made: int = 0
    sent: int = 0
    held: set[tuple[str, str]] = field(default_factory=set)
    lines: dict[str, float] = field(default_factory=dict)
    _events: list[tuple[float, int, Seat, bool]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=itertools.count)

    def play(self) -> None:
        """Let time go by until everything is done."""
        self._open()
        while self._events:
            self.now, _, seat, began = heapq.heappop(self._events)
            if began:
                self.held.add((seat.host, seat.cell))
                self.dealer.has_golden(seat)
            else:
                self.dealer.done(seat, seat.hand[0].id)
            self.dealer.give(seat)
            if seat.hand:
                self._at(self.now + self.left[seat.hand[0].id], seat, began=False)
            else:
                self.dealer.close(seat, lost=False)
            self._open()

    def _open(self) -> None:
        while (seat := self.dealer.open()) is not None:
            self.dealer.give(seat)
            self._at(self._obtain(seat), seat, began=True)

    def _at(self, when: float, seat: Seat, *, began: bool) -> None:
        heapq.heappush(self._events, (when, next(self._order), seat, began))

    def _obtain(self, seat: Seat) -> float:
        """Return when a seat begins its first scenario."""
        ready = self.now + SEAT_SECONDS
        if (seat.host, seat.cell) in self.held:
            return ready
        if not seat.holders:
            self.made += 1
            return ready + GOLDEN_SECONDS
        # One after the other through the line of the host that gives it.
        begin = max(self.now, self.lines.get(seat.holders[0], 0.0))
        self.sent += 1
        self.lines[seat.holders[0]] = begin + PACKED_MB / HOST_MB_S
        return begin + PACKED_MB / HOST_MB_S + UNPACK_SECONDS + SEAT_SECONDS


def cluster(cells: dict[str, list[float]], hosts: int) -> Outcome:
    """Return what a run takes on the hosts of a cluster, as ``sysvm run --on`` deals it out."""
    pieces = [
        Piece(f"{cell}-{number}", cell, seconds)
        for cell, all_seconds in cells.items()
        for number, seconds in enumerate(all_seconds)
    ]
    state = _Hosts({piece.id: piece.seconds for piece in pieces})
    state.dealer.add(pieces)
    for number in range(hosts):
        state.dealer.join(f"host{number:04}", SLOTS)
    state.play()
    return Outcome(state.now, state.made, state.sent)


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
        f"{'hosts':>6} {'ideal s':>9} {'shards s':>9} {'of ideal':>8} {'cluster s':>9} {'of ideal':>8} {'sent':>6}"
    )
    rows = []
    for hosts in HOSTS:
        best, parts, single = ideal(cells, hosts), shards(cells, hosts), cluster(cells, hosts)
        rows.append((hosts, best, parts.makespan, single.makespan))
        print(
            f"{hosts:6} {best:9.0f} {parts.makespan:9.0f} {best / parts.makespan:8.2f} {single.makespan:9.0f} "
            f"{best / single.makespan:8.2f} {single.sent:6}"
        )
    print(
        f"half the hosts' time is used up to {knee([(h, b, s) for h, b, s, _ in rows])} hosts in shards, and"
    )
    print(f"up to {knee([(h, b, q) for h, b, _, q in rows])} in a cluster")
