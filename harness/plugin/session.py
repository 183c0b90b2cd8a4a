"""A run as pytest carries it around; apart from the plugin, so that callers can name it before pytest loads that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.plugin.options import option, repeatable, seed_of
from harness.record import progress, results
from harness.record.events import EventLog
from harness.record.results import ResultsFolder
from harness.report import known

RUN = pytest.StashKey["RunSession"]()
# Keys under which pytest-xdist carries things to its workers and back.
RESULTS_KEY, PROBLEM_KEY = "sysvm_results", "sysvm_problem"


@dataclass(frozen=True)
class Problem:
    """An error of the user or the machine, as a process ends with it."""

    text: str
    exit_status: int


@dataclass
class RunSession:
    """A run as the plugin sees it.

    Attributes:
        results: its folder.
        events: where its events go.
        problem: the first error that was no check's finding.
        interrupted: whether a person ended it.
    """

    results: ResultsFolder
    events: EventLog
    problem: Problem | None = None
    interrupted: bool = False


def run_of(config: pytest.Config) -> RunSession:
    """Return the run, starting it with the first scenario: collecting tests leaves no folder."""
    run = config.stash.get(RUN, None)
    if run is None:
        shared = getattr(config, "workerinput", {}).get(RESULTS_KEY)
        joined = shared or option(config, "into")
        folder = ResultsFolder(Path(joined)) if joined else results.create(option(config, "results"))
        run = config.stash[RUN] = RunSession(folder, EventLog(folder.events))
        if not joined:
            run.events.emit("options", options=repeatable(config))
            _emit_known(run, option(config, "known-failures"))
            progress.say(f"seed {seed_of(config)}: the same moments are drawn with --seed {seed_of(config)}")
    return run


def _emit_known(run: RunSession, path: Path | None) -> None:
    """Record the list of known failures with the run, so that its views can be made again; an expired row fails it."""
    if path is None:
        return
    rows = known.read(path)
    run.events.emit("known_failures", rows=rows)
    for row in known.expired(rows, datetime.now(UTC).date()):
        reason = f"{path}: the row for {row.check} of {row.scenario} ended on {row.until}: mend it, or look at it again"
        run.events.emit("check", name="known-failures.current", verdict="failed", reason=reason)


class Latest:
    """A plugin for callers in the same process: remembers the run after pytest is done."""

    def __init__(self) -> None:
        """Start without one."""
        self.run: RunSession | None = None

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Take the run out of the configuration."""
        self.run = config.stash.get(RUN, None)
