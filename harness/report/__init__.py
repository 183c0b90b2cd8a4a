"""The views of a run: JUnit for machines, a page for a browser, run.json as proof, a table for the terminal.

All are made from ``events.jsonl`` alone, so they can be made again at any time and never disagree.
"""

from __future__ import annotations

from bundle import files
from harness.record.events import read_with_gaps
from harness.record.results import ResultsFolder
from harness.report.assembly import build
from harness.report.formats import formats
from harness.report.html import PAGE, render_html
from harness.report.junit import render_junit
from harness.report.rows import RunReport

__all__ = ["PAGE", "RunReport", "build", "load", "render_html", "render_junit", "write"]


def load(results: ResultsFolder) -> RunReport:
    """Return the report of a run from its event log.

    Raises:
        UsageError: the log is missing or is none.
    """
    events, skipped = read_with_gaps(results.events)
    return build(events, results.name, skipped)


def write(results: ResultsFolder) -> RunReport:
    """Write the files of all formats of a run from its event log and return the report.

    Raises:
        UsageError: the log is missing or is none.
        InfrastructureError: a file cannot be written.
    """
    report = load(results)
    for each in formats():
        files.write(results.folder / each.file, each.render(report))
    return report
