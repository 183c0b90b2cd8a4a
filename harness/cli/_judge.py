"""The common part of ``sysvm run`` and ``sysvm repro``: run scenarios by pytest, show the table, end with a status."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from bundle import files
from bundle.errors import Exit, UsageError
from bundle.sink import tell
from harness.cli._show import show_report
from harness.plugin.planning import SHIPPED, command_line, plan
from harness.plugin.recording import SCENARIO, VERDICT
from harness.plugin.session import Latest, RunSession
from harness.record import progress
from harness.record.events import read
from harness.report import PAGE, RunReport, render_junit, write

# Seconds that workers have to stop their machines and copy logs when a person ends the run.
_END_DEADLINE = 90


def judge(
    arguments: Sequence[str],
    as_json: bool,
    junit: Path | None = None,
    folder: Path = SHIPPED,
    retries: int = 0,
) -> int:
    """Run scenarios in this process and its workers, and print the report.

    Args:
        arguments: options of pytest and of the plugin.
        as_json: print the report as JSON.
        junit: where the JUnit file is to be, too.
        folder: where the scenarios are.
        retries: how often scenarios are made again that failed because the machine did; those whose guest's kernel
            stood still are made once more without it, for emulation is known for that.

    Returns:
        The exit status of the command.

    Raises:
        UsageError: an argument cannot be meant, or no scenario is chosen.
    """
    if junit is not None and not junit.absolute().parent.is_dir():
        raise UsageError(f"--junit {junit}: no folder {junit.absolute().parent}")
    planned = plan(arguments, folder)
    ran, status = _play(folder, arguments, len(planned))
    rounds = max(1, retries)
    for attempt in range(1, rounds + 1):
        again = _machine_failed(ran, "exit_status" if retries else "once_more")
        if not again or ran.interrupted:
            break
        progress.plain(f"repeating {len(again)} scenarios that the machine failed ({attempt} of {rounds})")
        words = [word for word in arguments if not word.startswith(("--scenario=", "--known-failures="))]
        chosen = [f"--scenario={','.join(again)}", f"--into={ran.results.folder}"]
        ran, status = _play(folder, [*words, *chosen], len(again))
    report = write(ran.results)
    if junit is not None:
        files.write(junit, render_junit(report))
    show_report(report, ran.results.folder / PAGE, as_json=as_json)
    return _status(ran, report, status)


def _play(folder: Path, arguments: Sequence[str], count: int) -> tuple[RunSession, int]:
    """Run scenarios with pytest, and return the run and pytest's status.

    Raises:
        UsageError: none was run.
    """
    ran, status = Latest(), int(pytest.ExitCode.INTERRUPTED)
    with tempfile.TemporaryFile("w+") as log, contextlib.redirect_stdout(log):
        _be_patient_with_workers()
        # A second Ctrl-C, while the first one's cleaning up lasts, ends pytest itself.
        with contextlib.suppress(KeyboardInterrupt):
            status = int(pytest.main(command_line(folder, arguments), plugins=[ran, _Teller(count)]))
        log.seek(0)
        text = log.read()
    if ran.run is None:
        if status == pytest.ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        last = text.strip().splitlines()[-1:] or [f"pytest ended with status {status}"]
        raise UsageError(f"no scenario was run: {last[0]}")
    with ran.run.results.log("pytest.log").open("a", encoding="utf-8", errors="backslashreplace") as kept:
        kept.write(text)
    return ran.run, status


def _machine_failed(run: RunSession, field: Literal["exit_status", "once_more"]) -> list[str]:
    """Return the ids of the scenarios whose last attempt failed because the machine did, and of nothing else.

    ``once_more`` are those alone that are worth another attempt without anybody asking for it.
    """
    wanted = {"exit_status": int(Exit.INFRASTRUCTURE), "once_more": True}[field]
    ends = {
        event["scenario"]: event.get(field)
        for event in read(run.results.events)
        if event.kind == "scenario_finished"
    }
    return [name for name, value in ends.items() if value == wanted]


def _status(run: RunSession, report: RunReport, status: int) -> int:
    if run.interrupted:
        tell("sysvm: interrupted; the report has what was known by then", err=True)
        return Exit.INTERRUPTED
    if run.problem is not None:
        tell(f"sysvm: {run.problem.text}", err=True)
        return run.problem.exit_status
    # pytest knows nothing of known failures: with them its word alone does not count.
    known = any(row.known for row in report.scenarios) and status == pytest.ExitCode.TESTS_FAILED
    return Exit.OK if report.verdict in {"passed", "skipped"} and (status == 0 or known) else Exit.FAILED


def _be_patient_with_workers() -> None:
    """Give workers time to stop their machines: pytest-xdist kills them after ten seconds."""
    with contextlib.suppress(ImportError):
        from xdist.workermanage import NodeManager

        NodeManager.EXIT_TIMEOUT = _END_DEADLINE


@dataclass
class _Teller:
    """A plugin that prints one line a scenario when it has ended: how many of how many, verdict, seconds, reason.

    Attributes:
        total: how many scenarios the run makes.
        done: how many have ended.
        begun: when the first one began, on the monotonic clock.
    """

    total: int
    done: int = 0
    begun: float = field(default_factory=time.monotonic)
    _seen: dict[str, tuple[str, float, str]] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take one phase of a test; the line is printed with the last one."""
        name = getattr(report, SCENARIO, None)
        if name is None and report.when in ("setup", "call", "teardown"):
            return  # no scenario; a worker that died says "???" and has no name
        key = name or report.nodeid
        verdict, seconds, reason = self._seen.get(key, ("passed", 0.0, ""))
        if report.skipped:
            verdict, reason = "skipped", _reason(report)
        elif report.failed:
            verdict, reason = getattr(report, VERDICT, "error"), _reason(report)
        self._seen[key] = (verdict, seconds + report.duration, reason)
        if report.when not in ("setup", "call"):
            self._tell(key)

    def _tell(self, key: str) -> None:
        verdict, seconds, reason = self._seen.pop(key)
        self.done += 1
        why = f": {reason}" if reason and verdict != "passed" else ""
        left = self.left(time.monotonic())
        progress.plain(f"[{self.done}/{self.total}{left}] {key}: {verdict} in {seconds:.1f} s{why}")

    def left(self, now: float) -> str:
        """Return how long the rest will take, if it goes on as it went so far; nothing when there is no rest."""
        seconds = (now - self.begun) / self.done * (self.total - self.done)
        if not seconds:
            return ""
        return f", {seconds / 60:.0f} min left" if seconds >= 90 else f", {seconds:.0f} s left"


def _reason(report: pytest.TestReport) -> str:
    """Return the first line of why a test did not pass."""
    told = report.longrepr
    if isinstance(told, tuple):
        return str(told[2]).removeprefix("Skipped: ")
    crash = getattr(told, "reprcrash", None)
    text = str(getattr(crash, "message", None) or told or "")
    first = next((line for line in text.strip().splitlines() if line), "")
    # The kind of our own errors says nothing to a person.
    return re.sub(r"^(Failed|bundle\.errors\.\w+): ", "", first)
