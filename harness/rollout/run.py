"""The run of a rollout: begins units as the limits allow, keeps all of them going, and ends at failures. One thread."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from bundle.errors import SysvmError
from harness.rollout.course import Course, RolloutWork, UnitOutcome
from harness.rollout.order import Line, Placed, conflicts

AtWindowEnd: TypeAlias = Literal["wait", "stop"]
# Seconds after which a run looks again whether somebody wants it to end.
_LONGEST_SLEEP = 300.0


@dataclass(frozen=True)
class RolloutResult:
    """The end of a run.

    Attributes:
        verdict: ``passed`` when every unit that was begun is well, else ``failed``.
        reason: one line.
        remaining: how many units were not begun.
    """

    verdict: Literal["passed", "failed", "error"]
    reason: str
    remaining: int


def _never() -> bool:
    return False


def _nothing(_line: str) -> None:
    """Tell nobody."""


@dataclass(order=True)
class _Going:
    due: datetime
    number: int
    course: Course = field(compare=False)
    steps: Iterator[float] = field(compare=False)


@dataclass
class Run:
    """One run, or the resumption of one.

    Attributes:
        work: what the courses share.
        at_window_end: whether it waits for the next opening or ends.
        wants_end: says whether a person wants it to end.
        say: tells a person what happens.
        retry: ids of units whose failed attempt is followed by a new one.
    """

    work: RolloutWork
    at_window_end: AtWindowEnd = "wait"
    wants_end: Callable[[], bool] = _never
    say: Callable[[str], None] = _nothing
    retry: frozenset[str] = frozenset()
    _going: list[_Going] = field(default_factory=list, init=False)
    _rests: list[datetime] = field(default_factory=list, init=False)
    _begun: int = field(default=0, init=False)
    _failures: int = field(default=0, init=False)
    _open: bool = field(default=False, init=False)
    _number: int = field(default=0, init=False)
    _done: int = field(default=0, init=False)

    def go(self) -> RolloutResult:
        """Patch what is to be patched, and say how that ended.

        Raises:
            InfrastructureError: the server does not answer any more; what is under way stands in the journal.
        """
        self.work.journal.log.emit("rollout_went_on", retry=sorted(self.retry))
        try:
            result = self._go()
        except SysvmError as error:
            self.work.journal.log.emit("run_finished", verdict="error", reason=str(error))
            raise
        self.work.journal.log.emit("run_finished", verdict=result.verdict, reason=result.reason)
        return result

    def _go(self) -> RolloutResult:
        line = self._line()
        self._go_on()
        while True:
            ended = self._ended(line)
            if not ended:
                self._begin_what_may(line)
                ended = self._ended(line)
            if not self._going and ended:
                return self._result(line, ended)
            self._wait(line, ended)
            self._advance(line)

    def _line(self) -> Line:
        """Return the units that wait: never begun, cut off before their call, or to be tried again."""
        rows = []
        for row in self.work.state.placed:
            standing = self.work.state.of(row.unit)
            if standing.phase == "begun" or (row.unit.id in self.retry and standing.phase == "over"):
                standing.phase = "waiting"
            if standing.phase == "waiting":
                rows.append(row)
        self._done = len(self.work.state.placed) - len(rows)
        return Line.of(rows)

    def _go_on(self) -> None:
        """Take up the units whose call was announced and whose end is not known, at any time of day."""
        for row in self.work.state.placed:
            standing = self.work.state.of(row.unit)
            if standing.under_way:
                self.say(f"{row.unit.title}: going on")
                self._done -= 1
                self._take_up(Course(self.work, replace(row, unit=standing.seen or row.unit)))

    def _take_up(self, course: Course) -> None:
        self._number += 1
        now = self.work.api.clock.now()
        heapq.heappush(self._going, _Going(now, self._number, course, course.steps()))

    def _ended(self, line: Line) -> str:
        """Return why no other unit begins; empty while others may."""
        limits = self.work.limits
        if self.wants_end():
            return "ended by a person"
        if self._open:  # its VMs, and their host, may be busy for as long as nobody knows
            return "ended, for a job may still be under way: 'resume' follows it"
        if self._failures >= limits.max_failures:
            return f"ended after {self._failures} failure(s)"
        if not line.waiting:
            return "all units are done"
        if limits.most is not None and self._begun >= limits.most:
            return f"ended after {limits.most} unit(s), as asked for"
        if self.at_window_end == "stop" and not self._may_begin(line.waiting[0]):
            return "the window has closed"
        return ""

    def _may_begin(self, row: Placed) -> bool:
        return self.work.limits.may_begin(self.work.api.clock.now(), row.seconds)

    def _begin_what_may(self, line: Line) -> None:
        while not self._ended(line) and self._places() > 0 and self._may_begin(line.waiting[0]):
            row = line.next([going.course.placed for going in self._going])
            if row is None or not self._may_begin(row):
                if row is not None:
                    line.put_back(row)
                return
            self._begin(row, line)

    def _places(self) -> int:
        now = self.work.api.clock.now()
        self._rests = [until for until in self._rests if until > now]
        return self.work.limits.at_once - len(self._going) - len(self._rests)

    def _begin(self, row: Placed, line: Line) -> None:
        """Look at a unit once more and begin it, unless it has come to share a host with one that runs."""
        seen = self.work.look(row.unit)
        hinder = self.work.hinder(seen)
        if hinder is not None or seen.unit is None:
            course = Course(self.work, row)
            self._over(course, course.skip(hinder or UnitOutcome("skipped", "it is not there any more")))
            return
        # It keeps the name that it has in the plan: reports know it by that.
        fresh = replace(row, unit=replace(seen.unit, name=row.unit.name, kind=row.unit.kind))
        if conflicts(fresh.unit, fresh.unit.hosts, [going.course.unit for going in self._going]):
            line.put_back(fresh)
            return
        self.say(f"{fresh.unit.title}: {fresh.unit.command}")
        self._begun += 1
        self._take_up(Course(self.work, fresh))

    def _advance(self, line: Line) -> None:
        """Let every unit whose time has come go on to its next wait."""
        while self._going and self._going[0].due <= self.work.api.clock.now():
            going = heapq.heappop(self._going)
            try:
                wait = next(going.steps)
            except StopIteration:
                outcome = going.course.outcome or UnitOutcome("error", "it ended without an outcome")
                if outcome.put_back:
                    self._begun -= 1
                    line.put_back(going.course.placed)
                    continue
                self._over(going.course, outcome)
                self._rests.append(self.work.api.clock.now() + timedelta(seconds=self.work.limits.pause))
                continue
            going.due = self.work.api.clock.now() + timedelta(seconds=wait)
            heapq.heappush(self._going, going)

    def _over(self, course: Course, outcome: UnitOutcome) -> None:
        self._failures += outcome.verdict in {"failed", "error"}
        self._open = self._open or outcome.open
        self._done += 1
        count = f"[{self._done}/{len(self.work.state.placed)}]"
        why = f": {outcome.reason}" if outcome.reason else ""
        self.say(f"{count} {course.unit.title}: {outcome.verdict}{why}")

    def _wait(self, line: Line, ended: str) -> None:
        """Wait until a unit is due, a place has rested, or the window opens."""
        now = self.work.api.clock.now()
        moments = [going.due for going in self._going[:1]]
        if not ended:
            moments += self._rests
            if not self._going and self._places() > 0:
                moments.append(now + timedelta(seconds=self._until_open(line, now)))
        seconds = (min(moments) - now).total_seconds() if moments else 0.0
        if seconds > 0:
            self.work.api.clock.sleep(min(seconds, _LONGEST_SLEEP))

    def _until_open(self, line: Line, now: datetime) -> float:
        window = self.work.limits.window
        if window is None or not line.waiting or self._may_begin(line.waiting[0]):
            return 0.0
        if not window.is_open(now):
            return window.wait(now)
        closed = now + timedelta(seconds=window.left(now))
        return (closed - now).total_seconds() + window.wait(closed)

    def _result(self, line: Line, ended: str) -> RolloutResult:
        remaining = len(line.waiting)
        states = self.work.state.units.values()
        bad = sum(standing.verdict in {"failed", "error"} for standing in states if standing.phase == "over")
        rest = f"; {remaining} unit(s) not begun" if remaining else ""
        if bad:
            return RolloutResult("failed", f"{bad} unit(s) failed; {ended}{rest}", remaining)
        return RolloutResult("passed", f"{ended}{rest}", remaining)
