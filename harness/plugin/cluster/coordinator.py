"""The run's own side: a plugin that lets hosts make what was collected here, and records what they tell.

It stands in the place of pytest's loop, as pytest-xdist does: collecting, reporting and the end are those of any run.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from bundle.errors import Exit, SysvmError
from harness.plugin.cells import Cell
from harness.plugin.choosing import cell_of, scenario_id, why_not
from harness.plugin.cluster.address import read_meeting
from harness.plugin.cluster.dealing import Dealer, Piece, Seat
from harness.plugin.cluster.hosts import Cluster, cluster_at, files_in
from harness.plugin.cluster.orders import News, Order
from harness.plugin.cluster.record import Record, unpack
from harness.plugin.mark import scenario_of
from harness.plugin.options import for_seat, option, seed_of
from harness.plugin.planning import SHIPPED
from harness.plugin.session import Problem, RunSession, run_of
from harness.record import progress
from harness.report.history import cost_of, durations

# Seconds that a scenario is taken to last of which no run tells.
_UNKNOWN = 60.0
# Seconds between two looks at who is there, when there is no news.
_TICK = 0.5
# Seconds that a run without any host waits for one.
_ALONE = 30.0
# Seconds in which a seat begins that a host has room for.
_BEGIN_DEADLINE = 10.0
# Seconds that hosts have to end their seats, once a person has ended the run.
_END_DEADLINE = 100.0


class ClusterPlugin:
    """A plugin that makes scenarios on other hosts; registered when ``--on`` names their scheduler."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Let the hosts make all that was collected, and return when everything has an end."""
        config = session.config
        if config.getoption("collectonly") or not session.items:
            return None
        here = [item for item in session.items if scenario_id(item) is None or why_not(item)]
        for item in here:  # what is skipped needs no host
            config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        there = [item for item in session.items if item not in here]
        run = run_of(config)
        try:
            with cluster_at(read_meeting(option(config, "on"), option(config, "certificates"))) as cluster:
                _Play(session, run, cluster, there).run()
        except SysvmError as error:
            run.problem = run.problem or Problem(error.diagnostics(), int(error.exit_status))
            session.shouldfail = str(error)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        return True


@dataclass
class _Play:
    """One run on the hosts of a cluster."""

    session: pytest.Session
    run_session: RunSession
    cluster: Cluster
    items: Sequence[pytest.Item]
    dealer: Dealer = field(default_factory=Dealer)
    names: dict[str, str] = field(default_factory=dict)
    golden: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    _looked: float = 0.0
    _alone_since: float | None = None
    _lingering: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take what is to be made, and what it took before."""
        config = self.session.config
        self.config = config
        self.record = Record(self.run_session.events)
        self.by_id = {item.nodeid: item for item in self.items}
        # A network of a scenario's own has a golden snapshot of its own.
        self.cells = {_group(cell_of(item)): cell_of(item) for item in self.items}
        known = durations(option(config, "results"))
        self.dealer.add(
            Piece(item.nodeid, _group(cell_of(item)), _seconds(item, known)) for item in self.items
        )

    def run(self) -> None:
        """Deal out until everything has an end.

        Raises:
            InfrastructureError: the scheduler is gone, or no host is left.
        """
        self.cluster.listen(self.run_session.results.name)
        try:
            while not self.dealer.finished and not self.session.shouldfail:
                self._look()
                self._deal()
                self._take(_TICK)
        finally:
            self._end_all()

    def _look(self) -> None:
        """See who has come and who has gone."""
        if time.monotonic() - self._looked < _TICK:
            return
        self._looked = time.monotonic()
        present = self.cluster.present()
        self._take(0.0)  # what those have told who are gone
        for address in self.dealer.hosts - set(present):
            progress.plain(f"{self.names[address]} is gone")
            for seat in self._leave(address):
                self._lose(seat, f"{self.names[address]} is gone")
        for address in set(present) - self.dealer.hosts - self.refused:
            self._join(address)
        self._wait_for_hosts()
        for seat in list(self.dealer.seats.values()):
            end = self.cluster.ended(seat.name)
            # What it has told before arrives before this is seen; a bad end tells nothing by itself.
            if isinstance(end, str) and self.cluster.news.empty():
                self._lose(seat, f"{self.names[seat.host]}: {end}")

    def _join(self, address: str) -> None:
        """Let a host take part, unless it could not do as the others do."""
        try:
            found = self.cluster.facts([address], files_in(for_seat(self.config, "", "")))
        except SysvmError as error:
            progress.plain(f"a host takes no part: {error.diagnostics()}")
            self.refused.add(address)
            return
        for facts in found.values():
            self.names[address] = facts.name
            self.dealer.join(address, facts.places, facts.cells)
            progress.plain(f"{facts.name} takes part, with {facts.places} slots")

    def _wait_for_hosts(self) -> None:
        """Wait a while when nobody is there: a host that is started again comes soon. Then what waits has an end."""
        if self.dealer.hosts:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
            progress.plain(f"no host is left: waiting {_ALONE:.0f} s for one")
        elif time.monotonic() - self._alone_since > _ALONE:
            self._give_up(self.dealer.stranded(), "no host is left")

    def _deal(self) -> None:
        """Let hosts take seats, and hand on what those need that are taken; one for which there is nothing may go."""
        while (seat := self.dealer.open()) is not None:
            self.cluster.sit(seat.host, self._order(seat, self.dealer.give(seat)))
        for seat in [seat for seat in self.dealer.seats.values() if seat.taken and not seat.dismissed]:
            pieces = self.dealer.give(seat)
            if pieces or not seat.hand:
                seat.dismissed = not pieces
                if not self.cluster.give(
                    seat.host, seat.name, [piece.id for piece in pieces], last=not pieces
                ):
                    self._lose(seat, f"{self.names[seat.host]} does not answer")

    def _order(self, seat: Seat, first: Sequence[Piece]) -> Order:
        cell = self.cells[seat.cell]
        root = self.config.rootpath
        return Order(
            run=self.run_session.results.name, seat=seat.name, folder="" if root == SHIPPED else str(root),
            first=tuple(piece.id for piece in first), arguments=for_seat(self.config, cell.vm_type, cell.from_release),
            seed=seed_of(self.config), golden=self.golden.get(seat.cell, ""), holders=seat.holders,
        )  # fmt: skip

    def _take(self, patience: float) -> None:
        """Take the news that are there, waiting a while for the first."""
        with contextlib.suppress(queue.Empty):
            self._hear(self.cluster.news.get(timeout=patience))
            while True:
                self._hear(self.cluster.news.get_nowait())

    def _hear(self, news: News) -> None:
        seat = self.dealer.seats.get(news.seat)
        if seat is None:  # it was taken for lost: what it did is made again
            if news.kind == "ended":
                self._lingering.pop(news.seat, None)
            return
        if news.kind == "taken":
            seat.taken = True
        elif news.kind == "events":
            for event in self.record.take(seat.name, self.names[seat.host], news.content):
                if event.kind == "golden":
                    self.golden[seat.cell] = event["key"]
                    self.dealer.has_golden(seat)
        elif news.kind == "said":
            progress.plain(f"{self.names[seat.host]}: {news.content}")
        elif news.kind == "done":
            self._done(seat, news.content)
        elif news.content or seat.hand:
            self._lose(seat, f"{self.names[seat.host]}: {news.content or 'the seat ended'}")
            self._lingering.pop(seat.name, None)
        else:
            self._close(seat)

    def _done(self, seat: Seat, told: dict[str, Any]) -> None:
        """Take the end of a scenario: its logs, and what pytest says of it, unless it is made again."""
        item = self.by_id[told["id"]]
        name = scenario_id(item) or item.nodeid
        logs = self.cluster.take_logs(seat.host, seat.name, name)
        unpack(logs, self.run_session.results.folder / "logs")
        problem = Problem(*told["problem"]) if told["problem"] else None
        by_machine = self.record.status_of(name) == Exit.INFRASTRUCTURE
        if self.dealer.done(seat, item.nodeid, by_machine=by_machine) is None:
            progress.plain(f"{name} is made again on another host: {problem.text if problem else ''}")
            return
        self.run_session.problem = self.run_session.problem or problem
        for row in told["reports"]:
            report = self.config.hook.pytest_report_from_serializable(config=self.config, data=row)
            self.config.hook.pytest_runtest_logreport(report=report)

    def _close(self, seat: Seat) -> None:
        """Let go of a seat that ended as it was told to."""
        end = self.cluster.ended(seat.name)
        for _ in range(100):
            if end is not None:
                break
            time.sleep(0.05)
            end = self.cluster.ended(seat.name)
        if isinstance(end, bytes):
            unpack(end, self.run_session.results.folder / "logs")
        self.cluster.forget(seat.name)
        self.dealer.close(seat, lost=False)

    def _lose(self, seat: Seat, reason: str) -> None:
        """Let go of a seat that is lost: what it had under way has an end, and is made again."""
        self.cluster.forget(seat.name)
        for piece in seat.hand:
            self.record.lose(scenario_id(self.by_id[piece.id]) or "", self.names[seat.host], reason)
        if seat.taken and seat.host in self.dealer.hosts:
            self._lingering[seat.name] = seat.host  # its end is waited for before the run's
        self._give_up(self.dealer.close(seat, lost=True), reason)

    def _give_up(self, pieces: Sequence[Piece], reason: str) -> None:
        """Let scenarios end with an error that are not made again."""
        for piece in pieces:
            item = self.by_id[piece.id]
            name = scenario_id(item) or item.nodeid
            self.record.give_up(name, str(cell_of(item)), reason)
            problem = Problem(f"{name}: {reason}", int(Exit.INFRASTRUCTURE))
            self.run_session.problem = self.run_session.problem or problem
            report = pytest.TestReport(
                item.nodeid, item.location, {}, "failed", f"{name}: {reason}", "setup", [], 0.0
            )
            self.config.hook.pytest_runtest_logreport(report=report)

    def _end_all(self) -> None:
        """End all seats, and record what they tell until they have ended, or their hosts are gone."""
        for seat in self.dealer.seats.values():
            self.cluster.forget(seat.name)
        begun = time.monotonic()
        while (self.dealer.seats or self._lingering) and time.monotonic() < begun + _END_DEADLINE:
            try:
                present = self.cluster.present()
            except SysvmError:
                return  # without a scheduler each host ends its seats itself, and tells nobody
            for address in self.dealer.hosts - set(present):
                self._end_seats(self._leave(address))
            if time.monotonic() > begun + _BEGIN_DEADLINE:  # what no host has begun with, none will
                self._end_seats([seat for seat in self.dealer.seats.values() if not seat.taken])
            with contextlib.suppress(queue.Empty):
                self._hear_last(self.cluster.news.get(timeout=_TICK))

    def _end_seats(self, seats: Sequence[Seat]) -> None:
        for seat in seats:
            self.dealer.close(seat, lost=False)

    def _hear_last(self, news: News) -> None:
        seat = self.dealer.seats.get(news.seat)
        if news.kind == "ended":
            self._lingering.pop(news.seat, None)
            self._end_seats([seat] if seat is not None else [])
        elif news.kind == "taken" and seat is not None:
            seat.taken = True
        elif news.kind == "events" and seat is not None:
            self.record.take(seat.name, self.names[seat.host], news.content)

    def _leave(self, address: str) -> list[Seat]:
        """Forget a host; returns the seats that it had."""
        self._lingering = {name: host for name, host in self._lingering.items() if host != address}
        return self.dealer.leave(address)


def _group(cell: Cell) -> str:
    """Return the name of the cell, as the scenarios of one golden snapshot have it."""
    return str(cell) if cell.network is None else f"{cell} with {cell.network}"


def _seconds(item: pytest.Item, known: dict[str, list[float]]) -> float:
    declared = scenario_of(item)
    return cost_of(scenario_id(item) or "", declared.name if declared else "", known) or _UNKNOWN
