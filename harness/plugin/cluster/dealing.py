"""Dealing: which host takes a seat for which cell, which scenario goes to which seat, and what is made again.

Nothing here knows a network: what happened is told, and what is to be done is returned.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

# How often a scenario is made again that failed because its host did.
MOST_REPEATS = 2


@dataclass
class Piece:
    """A scenario that is to be made.

    Attributes:
        id: of its test.
        cell: that it is in.
        seconds: what it is expected to take.
        failed_on: hosts that died of it, or failed it without any fault of its.
    """

    id: str
    cell: str
    seconds: float
    failed_on: list[str] = field(default_factory=list)

    @property
    def spent(self) -> bool:
        """True if it is not made again, should it fail once more."""
        return len(self.failed_on) > MOST_REPEATS


@dataclass
class Seat:
    """A place on a host that makes scenarios of one cell.

    Attributes:
        name: of the seat.
        host: its address.
        cell: that it is for.
        holders: other hosts that have the cell's golden snapshot; the first is the one to ask.
        hand: what it was given and has not ended, in order.
        taken: whether its host has begun with it.
        dismissed: whether it was told that nothing comes any more.
    """

    name: str
    host: str
    cell: str
    holders: tuple[str, ...] = ()
    hand: list[Piece] = field(default_factory=list)
    taken: bool = False
    dismissed: bool = False


@dataclass
class _Host:
    """A host: cells whose snapshots it seems to have, free seats, and how often it is asked for a snapshot."""

    cells: set[str]
    free: int
    asked: int = 0


@dataclass
class Dealer:
    """The state of a run's work: what waits, who is there, and who has what.

    Attributes:
        waiting: scenarios that nobody has in hand, by cell.
        seats: those that are taken, or are to be, by name.
    """

    waiting: dict[str, list[Piece]] = field(default_factory=dict)
    seats: dict[str, Seat] = field(default_factory=dict)
    # Of seats: a run that is played again has others.
    _prefix: str = field(default_factory=lambda: secrets.token_hex(2))
    _hosts: dict[str, _Host] = field(default_factory=dict)
    _ready: set[str] = field(default_factory=set)
    _at: Counter[str] = field(default_factory=Counter)
    _count: int = 0

    @property
    def finished(self) -> bool:
        """True if nothing waits and no seat is taken."""
        return not self.seats and not any(self.waiting.values())

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts that are there."""
        return frozenset(self._hosts)

    def add(self, pieces: Iterable[Piece]) -> None:
        """Take work; the longest of a cell is made first, so that the ends of all hosts lie near each other."""
        for piece in pieces:
            self.waiting.setdefault(piece.cell, []).append(piece)
        for cell in self.waiting.values():
            cell.sort(key=lambda piece: (len(piece.failed_on) == 0, -piece.seconds, piece.id))

    def join(self, host: str, places: int, cells: Iterable[str] = ()) -> None:
        """Let a host take part.

        Args:
            host: its address.
            places: how many seats it has.
            cells: those whose golden snapshots it seems to have.
        """
        self._hosts[host] = _Host(set(cells), places)

    def leave(self, host: str) -> list[Seat]:
        """Forget a host; returns the seats that it had, for :meth:`close`."""
        self._hosts.pop(host, None)
        return [seat for seat in self.seats.values() if seat.host == host]

    def has_golden(self, seat: Seat) -> None:
        """Note that a seat's host has the golden snapshot of the seat's cell: others may have it from there."""
        self._ready.add(seat.cell)
        if seat.host in self._hosts:
            self._hosts[seat.host].cells.add(seat.cell)

    def holders(self, cell: str) -> list[str]:
        """Return the hosts that are known to have a cell's golden snapshot; the first was asked for one least often."""
        if cell not in self._ready:
            return []
        there = [(host.asked, name) for name, host in self._hosts.items() if cell in host.cells]
        return [name for _, name in sorted(there)]

    def open(self) -> Seat | None:
        """Return a seat that is to be taken now, or None: no host has a place, or no cell needs one.

        A host takes a cell whose snapshot it has, else one that nobody is at, else the one with most to do for each
        seat. While a cell's first host makes its snapshot, nobody else joins: it would make the same.
        """
        open_cells = [
            cell
            for cell, rest in self.waiting.items()
            if rest and (cell in self._ready or not self._at[cell])
        ]
        if not open_cells:
            return None
        free = [name for name, host in self._hosts.items() if host.free > 0]
        for host in sorted(free, key=lambda name: (-self._hosts[name].free, name)):
            cells = [
                cell
                for cell in open_cells
                if any(self._may_make(host, piece) for piece in self.waiting[cell])
            ]
            if cells:
                return self._take(host, min(cells, key=lambda name: self._rank(host, name)))
        return None

    def _take(self, host: str, cell: str) -> Seat:
        self._count += 1
        there = self.holders(cell)
        seat = Seat(f"{self._prefix}-{self._count}", host, cell, () if host in there else tuple(there))
        self.seats[seat.name] = seat
        self._at[cell] += 1
        self._hosts[host].free -= 1
        if seat.holders:
            self._hosts[seat.holders[0]].asked += 1
        return seat

    def give(self, seat: Seat) -> list[Piece]:
        """Return what a seat gets now: enough to know what comes next, and nothing that another seat could begin."""
        given: list[Piece] = []
        while True:
            rest = [piece for piece in self.waiting.get(seat.cell, ()) if self._may_make(seat.host, piece)]
            spare = len(rest) > self._at[seat.cell]
            if not rest or len(seat.hand) >= (2 if spare else 1):
                return given
            piece = rest[0]
            self.waiting[seat.cell].remove(piece)
            seat.hand.append(piece)
            given.append(piece)

    def done(self, seat: Seat, identifier: str, *, by_machine: bool = False) -> Piece | None:
        """Take the end of a scenario; returns it when that counts, and None when it is made again elsewhere.

        Args:
            seat: where it was made.
            identifier: of its test.
            by_machine: whether it failed because the machine did.
        """
        piece = next((piece for piece in seat.hand if piece.id == identifier), None)
        if piece is None:
            return None
        seat.hand.remove(piece)
        if not by_machine:
            return piece
        piece.failed_on.append(seat.host)
        if piece.spent or not set(self._hosts) - set(piece.failed_on):
            return piece
        self.add([piece])
        return None

    def close(self, seat: Seat, *, lost: bool) -> list[Piece]:
        """Take the end of a seat; what it had in hand waits again. Returns what was made too often to be made again.

        Args:
            seat: which ended.
            lost: whether it ended before it was told to: what it had under way, the first in its hand, may be why.
        """
        if self.seats.pop(seat.name, None) is not None:
            self._at[seat.cell] -= 1
            if seat.host in self._hosts:
                self._hosts[seat.host].free += 1
        hand, seat.hand = seat.hand, []
        given_up = []
        if lost and hand:
            hand[0].failed_on.append(seat.host)
            if hand[0].spent:
                given_up.append(hand.pop(0))
        self.add(hand)
        return given_up

    def stranded(self) -> list[Piece]:
        """Return and take back all that waits: nobody is left to make it."""
        rest = [piece for cell in self.waiting.values() for piece in cell]
        self.waiting.clear()
        return rest

    def _may_make(self, host: str, piece: Piece) -> bool:
        """Say whether a host may make a piece: one that failed it may not, as long as there is another."""
        return host not in piece.failed_on or not set(self._hosts) - set(piece.failed_on)

    def _rank(self, host: str, cell: str) -> tuple[bool, bool, float, str]:
        left = sum(piece.seconds for piece in self.waiting[cell])
        at = self._at[cell]
        return (cell not in self._hosts[host].cells, at > 0, -left / (at + 1), cell)
