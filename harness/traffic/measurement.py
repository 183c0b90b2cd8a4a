"""Measurements of one probe, and the gap that follows from them.

A gap is the time between two answers in a row, less the time between two requests: with a service that is gone for
exactly 2 s and 50 requests a second, it is 2.00 s ± 0.02 s. Answers count when they arrive, so it makes no
difference whether a service refuses requests, drops them, or answers all of them late.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

# A pause between two answers that is longer than this many periods is drawn in the report, as its gap.
_DRAWN = 3.0


@dataclass(frozen=True)
class ProbeResult:
    """The result of one probe. Times are readings of the monotonic clock, in seconds.

    Attributes:
        name: what was probed.
        started: when the first request could go out, or the last answer before the watch began.
        ended: when the last one could.
        sent: requests.
        lost: requests without an answer, or with a wrong one.
        longest_gap_ms: longest time without an answer, less the time between two requests.
        broken_streams: long-lived connections that ended before the probe did.
        gaps: begin and end of each gap that is worth drawing; the longest of them is ``longest_gap_ms`` long.
        first_loss: when the first lost request was sent; None without one.
        last_loss: when the last one was.
        lag_ms: how late the harness itself was at worst; a gap of this size may be its own.
        reason: what the last lost request ran into.
        streams: long-lived connections that were opened.
        sure_gap_ms: the longest gap without the time in which the harness itself stood still: an answer of then could
            not be seen. At least so long nobody was answered.
    """

    name: str
    started: float
    ended: float
    sent: int
    lost: int
    longest_gap_ms: float
    broken_streams: int = 0
    gaps: tuple[tuple[float, float], ...] = ()
    first_loss: float | None = None
    last_loss: float | None = None
    lag_ms: float = 0.0
    reason: str = ""
    streams: int = 0
    sure_gap_ms: float | None = None

    @property
    def lost_ms(self) -> float:
        """Milliseconds in which as many requests are sent as were lost."""
        return self.lost * (self.ended - self.started) * 1000 / self.sent if self.sent else 0.0

    def shifted(self, zero: float) -> ProbeResult:
        """Return the result with times counted from ``zero`` on."""
        return replace(
            self,
            started=round(self.started - zero, 4),
            ended=round(self.ended - zero, 4),
            gaps=tuple((round(begin - zero, 4), round(end - zero, 4)) for begin, end in self.gaps),
            first_loss=None if self.first_loss is None else round(self.first_loss - zero, 4),
            last_loss=None if self.last_loss is None else round(self.last_loss - zero, 4),
        )


@dataclass(frozen=True)
class Budget:
    """The result of one probe beside what it was allowed to lose.

    Attributes:
        budget_ms: the longest gap that it may have; what a busy host adds is in it.
        streams: how many it opened.
        stretch: how many times longer the VM's work took than alone on the host.
        sure_gap_ms: as in :class:`ProbeResult`; without it the whole gap is sure.
        lost_ms: what the lost requests amount to.
    """

    name: str
    sent: int
    longest_gap_ms: float
    budget_ms: float
    broken_streams: int = 0
    allowed_broken_streams: int = 0
    streams: int = 0
    stretch: float = 1.0
    sure_gap_ms: float | None = None
    lost_ms: float = 0.0

    @property
    def sure_ms(self) -> float:
        """The time without an answer, in milliseconds, that was the subject's and nobody else's."""
        return self.longest_gap_ms if self.sure_gap_ms is None else self.sure_gap_ms


@dataclass
class Recorder:
    """Collects what a probe sees; any thread may report.

    A probe that runs elsewhere, such as in a tenant that pings and prints a line for each answer, reports here
    directly, with the time of each answer where the line may come late.
    """

    name: str
    period: float
    started: float = field(default_factory=time.monotonic)
    _answers: list[float] = field(default_factory=list)
    _losses: list[float] = field(default_factory=list)
    _sent: int = 0
    _first_sent: float | None = None
    _streams: int = 0
    _broken: int = 0
    _lag: float = 0.0
    _reason: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self, at: float | None = None) -> None:
        """Count a request that went out now, or at a reading of the monotonic clock."""
        with self._lock:
            self._sent += 1
            if self._first_sent is None:
                self._first_sent = time.monotonic() if at is None else at

    def answered(self, at: float | None = None) -> None:
        """Count a right answer that arrived now, or at a reading of the monotonic clock."""
        with self._lock:
            self._answers.append(time.monotonic() if at is None else at)

    @property
    def was_answered(self) -> bool:
        """True if there was a right answer yet."""
        return bool(self._answers)

    def calm(self) -> float | None:
        """Judge only what comes after the last answer so far.

        Returns:
            The longest gap until then in milliseconds, which is what this host is like when nobody patches; where there
            was one answer only, what it took since the first request; None without an answer.
        """
        with self._lock:
            answers = sorted(self._answers)
            if answers:
                self.started = answers[-1]
            pauses = [after - before for before, after in itertools.pairwise(answers)]
            if pauses:
                return max(0.0, max(pauses) - self.period) * 1000
            if answers and self._first_sent is not None:
                return max(0.0, answers[0] - self._first_sent) * 1000
            return None

    def lost(self, sent_at: float, reason: str = "") -> None:
        """Count a request that got no answer, or a wrong one."""
        with self._lock:
            self._losses.append(sent_at)
            self._reason = reason

    def opened(self) -> None:
        """Count a stream that was opened."""
        with self._lock:
            self._streams += 1

    def broken(self, reason: str = "") -> None:
        """Count a stream that ended before it should."""
        with self._lock:
            self._broken += 1
            self._reason = reason

    def lagged(self, seconds: float) -> None:
        """Note how late the harness itself was with a request."""
        with self._lock:
            self._lag = max(self._lag, seconds)

    def result(self, ended: float | None = None, stalls: Sequence[tuple[float, float]] = ()) -> ProbeResult:
        """Return what was seen.

        Args:
            ended: until when, on the monotonic clock; now without it.
            stalls: begin and end of each time in which the harness itself stood still.
        """
        end = time.monotonic() if ended is None else ended
        with self._lock:
            answers, losses = sorted(self._answers), sorted(self._losses)
            marks = [self.started, *(min(answer, end) for answer in answers if answer > self.started), end]
            pauses = list(itertools.pairwise(marks))
            # One definition for the number and for what is drawn: the pause, less the time between two requests.
            gaps = [(min(before + self.period, after), after) for before, after in pauses]
            longest = max((after - begin for begin, after in gaps), default=0.0)
            sure = max((after - begin - _common(begin, after, stalls) for begin, after in gaps), default=0.0)
            return ProbeResult(
                name=self.name,
                started=self.started,
                ended=end,
                sent=self._sent,
                lost=len(losses),
                longest_gap_ms=round(longest * 1000, 1),
                broken_streams=self._broken,
                gaps=tuple(gap for gap in gaps if gap[1] - gap[0] > (_DRAWN - 1) * self.period),
                first_loss=losses[0] if losses else None,
                last_loss=losses[-1] if losses else None,
                lag_ms=round(self._lag * 1000, 1),
                reason=self._reason,
                streams=self._streams,
                sure_gap_ms=round(sure * 1000, 1),
            )


def _common(begin: float, end: float, stalls: Sequence[tuple[float, float]]) -> float:
    """Return how many seconds of a time lie in others, which do not overlap."""
    return sum(max(0.0, min(end, last) - max(begin, first)) for first, last in stalls)
