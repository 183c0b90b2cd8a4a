"""Waiting with a deadline and a short tick; a time-out says what was awaited and what was seen last."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from bundle.errors import InfrastructureError

T = TypeVar("T")
TICK = 0.02


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
    end = time.monotonic() + deadline
    while True:
        seen = probe()
        if seen:
            return seen
        if time.monotonic() >= end:
            raise DeadlineExceeded(f"{what}: not within {deadline:g} s (last seen: {seen!r})")
        time.sleep(tick)
