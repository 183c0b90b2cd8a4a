"""Waiting with a deadline and a short tick; what takes long is told, and a time-out says what was seen last."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from bundle.errors import InfrastructureError
from harness.record import progress

T = TypeVar("T")
TICK = 0.02
# Seconds after which a person is told what is waited for, again and again.
TOLD_EVERY = 30.0


class DeadlineExceeded(InfrastructureError):
    """Something did not happen in time."""


def as_long() -> float:
    """Return the factor of a deadline that nothing stretches."""
    return 1.0


def until(
    probe: Callable[[], T | None],
    what: str,
    deadline: float,
    *,
    tick: float = TICK,
    stretch: Callable[[], float] = as_long,
) -> T:
    """Call ``probe`` until it returns something true.

    Args:
        probe: returns a true value when done; exceptions pass through.
        what: what is awaited, for the error.
        deadline: seconds from now.
        tick: seconds between two calls.
        stretch: returns how many times longer than it should all takes on this host since the wait began; the
            deadline is so many times later.

    Raises:
        DeadlineExceeded: the deadline passed.
    """
    patience = Patience(what, deadline, stretch)
    while True:
        seen = probe()
        if seen:
            return seen
        if patience.ended(seen):
            raise DeadlineExceeded(f"{what}: not within {patience.whole:.4g} s (last seen: {seen!r})")
        time.sleep(tick)


class Patience:
    """A deadline that tells a person from time to time what is waited for; silence is not taken for a hang."""

    def __init__(self, what: str, deadline: float, stretch: Callable[[], float] = as_long) -> None:
        """Begin to wait.

        Args:
            what: what is awaited.
            deadline: seconds from now.
            stretch: as in ``until``.
        """
        self._what = what
        self._deadline = deadline
        self._stretch = stretch
        self._start = self._told = time.monotonic()

    @property
    def whole(self) -> float:
        """Seconds from the beginning to the deadline, as the host has stretched them until now."""
        return self._deadline * self._stretch()

    @property
    def left(self) -> float:
        """Seconds until the deadline; not below 0."""
        return max(0.0, self._start + self.whole - time.monotonic())

    def ended(self, seen: object = None) -> bool:
        """Say whether the deadline has passed; tell what was seen last when it is time for that."""
        now = time.monotonic()
        left = self.left
        if now - self._told >= TOLD_EVERY and left:
            self._told = now
            last = "" if seen is None else f"; last seen: {seen!r}"
            progress.say(f"waiting for {self._what}: {now - self._start:.0f} of {self.whole:.4g} s{last}")
        return not left
