"""What ``sysvm run`` and ``sysvm repro`` share: run the scenarios with pytest, show the table, end with a status."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from bundle.errors import Exit, UsageError
from bundle.sink import tell
from harness.cli._show import show_report
from harness.plugin.run import Latest
from harness.report import load


def judge(arguments: Sequence[str], as_json: bool) -> int:
    """Run the shipped scenarios in this process and print the report.

    Args:
        arguments: options of pytest and of the plugin.
        as_json: print the report as JSON.

    Returns:
        The exit status of the command.

    Raises:
        UsageError: no scenario was run.
    """
    here = Path(__file__).parent.parent / "scenarios"
    ran = Latest()
    with tempfile.TemporaryFile("w+") as log, contextlib.redirect_stdout(log):
        status = pytest.main(
            [str(here), "-c", str(here / "pytest.ini"), "--rootdir", str(here), "-p", "harness.plugin", *arguments],
            plugins=[ran],
        )  # fmt: skip
        log.seek(0)
        text = log.read()
    if ran.run is None:
        last = text.strip().splitlines()[-1:] or [f"pytest ended with status {status}"]
        raise UsageError(f"no scenario was run: {last[0]}")
    ran.run.results.log("pytest.log").write_text(text)
    report = load(ran.run.results)
    show_report(report, ran.run.results.html, as_json=as_json)
    if ran.run.problem is not None:
        tell(f"sysvm: {ran.run.problem.text}", err=True)
        return ran.run.problem.exit_status
    return Exit.OK if report.verdict in {"passed", "skipped"} and status == 0 else Exit.FAILED
