"""What a person sees while something long runs: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.record.events import EventLog


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step, and say how long it took; on a terminal a spinner turns meanwhile."""
    started = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(title):
            yield
    else:
        yield
    say(f"{title}: {time.monotonic() - started:.1f} s")


def say(line: str) -> None:
    """Print one plain line on standard error."""
    print(line, file=sys.stderr, flush=True)


@dataclass
class Narrator:
    """Tells a person and the event log the same story."""

    events: EventLog

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce, time and record one step."""
        with self.events.step(title), step(title):
            yield
