"""The views of a run: JUnit for machines, a page for a browser, a table for the terminal.

All are made from ``events.jsonl`` alone, so they can be made again at any time and never disagree.
"""

from __future__ import annotations

from bundle import files
from harness.record.events import read
from harness.record.results import Results
from harness.report.html import render_html
from harness.report.junit import render_junit
from harness.report.model import RunReport, build

__all__ = ["RunReport", "build", "load", "render_html", "render_junit", "write"]


def load(results: Results) -> RunReport:
    """Return the report of a run from its event log.

    Raises:
        UsageError: the log is missing or is none.
    """
    return build(read(results.events), name=results.name)


def write(results: Results) -> RunReport:
    """Write ``junit.xml`` and ``report.html`` of a run from its event log and return the report.

    Raises:
        UsageError: the log is missing or is none.
        InfrastructureError: a file cannot be written.
    """
    report = load(results)
    files.write(results.junit, render_junit(report))
    files.write(results.html, render_html(report))
    return report
