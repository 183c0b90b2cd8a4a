"""A run as pytest carries it around; apart from the plugin, so that callers can name it before pytest loads that."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.record.events import EventLog
from harness.record.results import Results

RUN = pytest.StashKey["Run"]()


@dataclass(frozen=True)
class Problem:
    """An error of the user or the machine, as a process ends with it."""

    text: str
    exit_status: int


@dataclass
class Run:
    """A run as the plugin sees it: where its events go, and the first error that was no check's finding."""

    results: Results
    events: EventLog
    problem: Problem | None = None


class Latest:
    """A plugin for callers in the same process: remembers the run after pytest is done."""

    def __init__(self) -> None:
        """Start without one."""
        self.run: Run | None = None

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Take the run out of the configuration."""
        self.run = config.stash.get(RUN, None)
