"""Bounds on how often somebody may try: calls of an account, and failed sign-ins under a name."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable

from harness.management.api.accounts import Account
from harness.management.api.limits import ApiLimits
from harness.management.api.problems import ApiError

_SIGN_IN_WINDOW = 60.0
# Names that nobody has must not fill the memory.
_NAMES = 1000


class Throttle:
    """Counts calls."""

    def __init__(self, limits: ApiLimits, clock: Callable[[], float]) -> None:
        """Take the bounds and the clock, seconds."""
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[str, deque[float]] = defaultdict(deque)

    def count(self, caller: Account) -> None:
        """Count a call.

        Raises:
            ApiError: 429, there were too many within the window.
        """
        if self._limits.calls is None:
            return
        if self._past(f"calls of {caller.name}", self._limits.calls_window) >= self._limits.calls:
            raise ApiError(
                429, "The given user has reached his/her account api limit, please retry after some time."
            )
        self._note(f"calls of {caller.name}")

    def may_sign_in(self, name: str) -> bool:
        """Say whether somebody may still try to sign in under a name."""
        return self._past(f"failures of {name}", _SIGN_IN_WINDOW) < self._limits.sign_ins

    def failed_to_sign_in(self, name: str) -> None:
        """Count a failed sign-in."""
        self._note(f"failures of {name}")

    def _past(self, what: str, window: float) -> int:
        with self._lock:
            times = self._times.get(what)
            if times is None:
                return 0
            while times and times[0] <= self._clock() - window:
                times.popleft()
            return len(times)

    def _note(self, what: str) -> None:
        with self._lock:
            if len(self._times) >= _NAMES and what not in self._times:
                self._times.pop(next(iter(self._times)))
            self._times[what].append(self._clock())
