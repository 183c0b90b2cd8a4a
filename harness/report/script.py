"""The log of the patch script: its phases, and what it did to each service, on the clock of the run.

The log has two kinds of time. Lines for people begin with the guest's date, in whole seconds; lines of the journal
begin with ``@`` and the guest's uptime in hundredths. Where both stand in one log, each dates the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from harness.record.events import Event
from harness.report.rows import TimeSpan

_DATED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}) \[\d+\] (.*)")
_UPTIME = re.compile(r"@(\d+\.\d+) (\S+) (.*)")
_BEGINS = re.compile(r"bring service (\S+) (?:up with the new files|back)")
_DOES = re.compile(r"(?:re)?starting (?P<restarted>\S+)|(?P<reloaded>\S+) (?:reloaded|refused to reload.*)")


@dataclass(frozen=True)
class _Line:
    """A line with a time: by date or by uptime, both in seconds, and what it says."""

    at: float
    dated: bool
    phase: str
    text: str


@dataclass(frozen=True)
class ScriptLog:
    """The log of one run of the script; times are seconds since the run's start.

    Attributes:
        said: the lines for people, with the second in which they were written.
        phases: of the transaction, in their order.
        services: what was done to each service, from the order to the last word about it.
    """

    said: tuple[tuple[float, str], ...] = ()
    phases: tuple[TimeSpan, ...] = ()
    services: tuple[TimeSpan, ...] = ()


def read(event: Event, log: Sequence[str]) -> ScriptLog:
    """Return what a log tells; a script of others, whose lines have no times, tells nothing.

    Args:
        event: with which the log was recorded; it ties the date to the run's clock.
        log: the lines of one run of the script.
    """
    lines = list(_lines(log))
    zero = datetime.fromisoformat(event.at).timestamp() - event.t
    said = tuple((round(line.at - zero, 3), line.text) for line in lines if line.dated)
    offset = _offset(lines)
    if offset is None:
        return ScriptLog(said)
    timed = [
        _Line(line.at + (0.5 if line.dated else offset) - zero, line.dated, line.phase, line.text)
        for line in lines
    ]
    return ScriptLog(said, tuple(_phases(timed)), tuple(_services(timed)))


def _lines(log: Sequence[str]) -> Iterable[_Line]:
    for line in log:
        if match := _DATED.fullmatch(line):
            yield _Line(datetime.fromisoformat(match[1]).timestamp(), True, "", match[2])
        elif match := _UPTIME.fullmatch(line):
            yield _Line(float(match[1]), False, match[2], match[3])


def _offset(lines: Sequence[_Line]) -> float | None:
    """Return what has to be added to an uptime to get a date: the middle of what the order of the lines allows."""
    earliest, latest = float("-inf"), float("inf")
    for place, line in enumerate(lines):
        if line.dated:
            continue
        before = max((other.at for other in lines[:place] if other.dated), default=None)
        after = min((other.at for other in lines[place:] if other.dated), default=None)
        earliest = max(earliest, before - line.at) if before is not None else earliest
        latest = min(latest, after + 1 - line.at) if after is not None else latest
    known = [bound for bound in (earliest, latest) if abs(bound) != float("inf")]
    return sum(known) / len(known) if known else None


def _phases(lines: Sequence[_Line]) -> Iterable[TimeSpan]:
    steps = [line for line in lines if not line.dated]
    for place, line in enumerate(steps):
        if place and steps[place - 1].phase == line.phase:
            continue
        end = next((later.at for later in steps[place:] if later.phase != line.phase), steps[-1].at)
        yield TimeSpan(round(line.at, 3), round(end - line.at, 3), line.phase)


def _services(lines: Sequence[_Line]) -> Iterable[TimeSpan]:
    """Yield what was done to each service, in each phase that does something to it."""
    open_: dict[str, float] = {}
    for line in lines:
        if not line.dated:
            if match := _BEGINS.fullmatch(line.text):
                open_[match[1]] = line.at
            continue
        match = _DOES.fullmatch(line.text)
        if match is None:
            continue
        name = match["restarted"] or match["reloaded"]
        begin = min(open_.pop(name, line.at), line.at)
        yield TimeSpan(round(begin, 3), round(line.at - begin, 3), line.text, name)
