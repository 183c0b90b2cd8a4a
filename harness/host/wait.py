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


def until(probe: Callable[[], T | None], what: str, deadline: float, *, tick: float = TICK) -> T:
    """Call ``probe`` until it returns something true.

    Args:
        probe: returns a true value when done; exceptions pass through.
        what: what is awaited, for the error.
        deadline: seconds from now.
        tick: seconds between two calls.

    Raises:
        DeadlineExceeded: the deadline passed.
    """
    patience = Patience(what, deadline)
    while True:
        seen = probe()
        if seen:
            return seen
        if patience.ended(seen):
            raise DeadlineExceeded(f"{what}: not within {deadline:g} s (last seen: {seen!r})")
        time.sleep(tick)


class Patience:
    """A deadline that tells a person from time to time what is waited for; silence is not taken for a hang."""

    def __init__(self, what: str, deadline: float) -> None:
        """Begin to wait.

        Args:
            what: what is awaited.
            deadline: seconds from now.
        """
        self._what = what
        self._deadline = deadline
        self._start = self._told = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds until the deadline; not below 0."""
        return max(0.0, self._start + self._deadline - time.monotonic())

    def ended(self, seen: object = None) -> bool:
        """Say whether the deadline has passed; tell what was seen last when it is time for that."""
        now = time.monotonic()
        if now - self._told >= TOLD_EVERY and self.left:
            self._told = now
            last = "" if seen is None else f"; last seen: {seen!r}"
            progress.say(f"waiting for {self._what}: {now - self._start:.0f} of {self._deadline:g} s{last}")
        return not self.left
