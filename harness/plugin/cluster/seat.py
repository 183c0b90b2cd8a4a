"""A seat from within: a pytest session of one cell that makes the scenarios it is told to, in the order of telling.

It is started by a host with the number of the file that takes its answers; its input has the order, and then one id of
a test a line; the end of the input is the end of the seat. Its plugins take it for a worker of pytest-xdist: it has
their messages, and leaves the report to the run.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from harness.plugin.options import SEED_KEY
from harness.plugin.planning import command_line
from harness.plugin.session import RESULTS_KEY, RUN


class _Later(pytest.Item):
    """The unknown scenario that comes next: pytest is told of it, so that it keeps what belongs to the session."""

    def runtest(self) -> None:
        """Refuse: it is told of as the next one and never run."""
        raise AssertionError(f"{self.name} stands for a scenario that is not known yet")


class SeatPlugin:
    """A plugin that runs what it is told to in place of all that was collected."""

    def __init__(self, orders: Iterator[str], answers: TextIO, results: Path, seed: int) -> None:
        """Take where orders come from, where answers go, the folder of results, and the run's seed."""
        self._orders = orders
        self._answers = answers
        self._told: dict[str, Any] = {RESULTS_KEY: str(results), SEED_KEY: seed, "workerid": "seat"}
        self._ahead: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reports: list[dict[str, Any]] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Let everybody know that this is a part of a run."""
        config.workerinput = self._told  # type: ignore[attr-defined]
        config.workeroutput = {}  # type: ignore[attr-defined]
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run one scenario after the other, with a look at the next where it is known already."""
        threading.Thread(target=self._listen, daemon=True).start()
        items = {item.nodeid: item for item in session.items}
        later = _Later.from_parent(session, name="later")
        here = self._ahead.get()
        while here:
            following = "" if self._ahead.empty() else self._ahead.get()
            self._run(items[here], items[following] if following else later)
            here = following or self._ahead.get()
        return True

    def _listen(self) -> None:
        for line in self._orders:
            self._ahead.put(line)
        self._ahead.put("")

    def _run(self, item: pytest.Item, following: pytest.Item) -> None:
        self._reports = []
        config = item.config
        config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        run = config.stash.get(RUN, None)
        problem = run.problem if run is not None else None
        if run is not None:
            run.problem = None
        self._answer(
            id=item.nodeid, reports=self._reports,
            problem=[problem.text, problem.exit_status] if problem is not None else None,
        )  # fmt: skip

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what pytest says of a scenario, for the run."""
        self._reports.append(
            self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        )

    def _answer(self, **fields: Any) -> None:
        self._answers.write(json.dumps(fields, default=str) + "\n")
        self._answers.flush()


def main(answers: int) -> int:
    """Run the session; returns pytest's status.

    Args:
        answers: number of the open file that takes the answers.
    """
    # Who was started in the background of a shell ignores it, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    orders = _lines(os.dup(0))  # pytest takes the input of its own away from tests
    with os.fdopen(answers, "w") as told:
        order = json.loads(next(orders))
        plugin = SeatPlugin(orders, told, Path(order["results"]), order["seed"])
        return int(pytest.main(command_line(Path(order["folder"]), order["arguments"]), plugins=[plugin]))


def _lines(handle: int) -> Iterator[str]:
    """Yield the lines of an open file. A file object would have a lock, for which the process's end would wait."""
    rest = b""
    while piece := os.read(handle, 1 << 16):
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode() for line in whole)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
