"""Time as a rollout sees it: the wall clock, for it may go on on another day, and the hours in which it may work."""

from __future__ import annotations

import re
import threading
import time as time_module
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bundle.errors import UsageError

_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_LENGTH = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smh]?)", re.ASCII)
# Seconds of a wait once an end is wanted.
_TICK = 1.0
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class RolloutClock(Protocol):
    """A clock that tells the time, and waits."""

    def now(self) -> datetime:
        """Return the time, with its zone."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; may return early when somebody wants the rollout to stop."""
        ...


@dataclass
class WallClock:
    """The machine's own clock; :meth:`end` ends its waits early."""

    _woken: threading.Event = field(default_factory=threading.Event)

    @property
    def wants_end(self) -> bool:
        """True once somebody wants the rollout to end."""
        return self._woken.is_set()

    def end(self) -> None:
        """Want the rollout to end."""
        self._woken.set()

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait; when an end is wanted, for a second at most, so that what is under way is still followed."""
        if self._woken.is_set():
            time_module.sleep(min(seconds, _TICK))
        else:
            self._woken.wait(seconds)


def seconds_of(text: str) -> float:
    """Return a length of time such as ``90``, ``90s``, ``15m`` or ``2h`` in seconds.

    Raises:
        UsageError: it is none.
    """
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise UsageError(f"invalid length of time {text!r} (expected for instance 90s, 15m or 2h)")
    return float(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True)
class Window:
    """The hours of the day in which a patch may begin.

    Attributes:
        start: local time of day at which it opens.
        end: local time of day at which it closes; another one than ``start``.
        zone: whose local time it is.
    """

    start: time
    end: time
    zone: tzinfo

    def is_open(self, now: datetime) -> bool:
        """Say whether a moment lies inside."""
        local = now.astimezone(self.zone).time()
        if self.start < self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end

    def left(self, now: datetime) -> float:
        """Return the seconds from a moment inside until the window closes."""
        return self._until(now, self.end)

    def wait(self, now: datetime) -> float:
        """Return the seconds until the window opens; 0 while it is open."""
        return 0.0 if self.is_open(now) else self._until(now, self.start)

    @property
    def length(self) -> float:
        """Seconds that it is open on a day without a change of the clocks."""
        minutes = (self.end.hour - self.start.hour) * 60 + self.end.minute - self.start.minute
        return minutes % 1440 * 60.0

    def _until(self, now: datetime, moment: time) -> float:
        """Return the seconds until it is a certain time of day, or until the clocks leap over it."""
        local = now.astimezone(self.zone)
        tomorrow = (now.astimezone(UTC) + timedelta(days=1)).astimezone(self.zone)
        if local.utcoffset() == tomorrow.utcoffset():
            since = timedelta(
                hours=local.hour, minutes=local.minute, seconds=local.second, microseconds=local.microsecond
            )
            left = timedelta(hours=moment.hour, minutes=moment.minute) - since
            return (left % timedelta(days=1)).total_seconds() or 86400.0
        # The clocks are changed within a day: a time of day may come twice, or not at all. Look minute by minute.
        was = self.is_open(now)
        whole = now.astimezone(UTC).replace(second=0, microsecond=0)
        minutes = (whole + timedelta(minutes=count) for count in range(1, 2 * 1440))
        changed = next((minute for minute in minutes if self.is_open(minute) != was), None)
        return 86400.0 if changed is None else (changed - now).total_seconds()

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


def window_of(text: str, zone: str = "") -> Window:
    """Return a window ``22:00-05:00``.

    Args:
        text: both ends, as local times of day; it may reach over midnight.
        zone: name of the time zone, such as ``Europe/Berlin``; the machine's own when empty.

    Raises:
        UsageError: the text is no window, or there is no such zone.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise UsageError(f"invalid window {text!r} (expected for instance 22:00-05:00)")
    opens, closes = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    if opens == closes:
        raise UsageError(f"the window {text!r} never closes", hint="leave it out")
    try:
        where = ZoneInfo(zone) if zone else local_zone()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"unknown time zone {zone!r} (expected for instance Europe/Berlin)") from None
    return Window(opens, closes, where)


class _Local(tzinfo):
    """The machine's own zone, with its changes of the clocks."""

    def _aware(self, when: datetime | None) -> datetime:
        moment = datetime.now() if when is None else when.replace(tzinfo=None)
        return moment.astimezone()

    def utcoffset(self, when: datetime | None) -> timedelta:
        return self._aware(when).utcoffset() or timedelta()

    def dst(self, when: datetime | None) -> timedelta | None:  # noqa: ARG002 - the interface's name
        return None

    def tzname(self, when: datetime | None) -> str:
        return self._aware(when).tzname() or "local"

    def fromutc(self, when: datetime) -> datetime:
        return when.replace(tzinfo=UTC).astimezone().replace(tzinfo=self)


def local_zone() -> tzinfo:
    """Return the machine's own time zone."""
    return _Local()
