"""The views of a run: JUnit for machines, a page for a browser, run.json as proof, a table for the terminal.

All are made from ``events.jsonl`` alone, so they can be made again at any time and never disagree.
"""

from __future__ import annotations

import json

from bundle import files
from harness.record.events import read_with_gaps
from harness.record.results import ResultsFolder
from harness.report.against import Comparison, compare
from harness.report.assembly import build
from harness.report.document import document
from harness.report.html import render_html, write_log_pages
from harness.report.junit import render_junit
from harness.report.rows import RunReport

__all__ = ["Comparison", "RunReport", "build", "compare", "load", "render_html", "render_junit", "write"]


def load(results: ResultsFolder) -> RunReport:
    """Return the report of a run from its event log.

    Raises:
        UsageError: the log is missing or is none.
    """
    events, skipped = read_with_gaps(results.events)
    return build(events, results.name, skipped)


def write(results: ResultsFolder, earlier: RunReport | None = None) -> RunReport:
    """Write ``junit.xml``, ``report.html`` and ``run.json`` of a run from its event log and return the report.

    Args:
        results: the run's folder.
        earlier: a run that the page tells the differences from.

    Raises:
        UsageError: the log is missing or is none.
        InfrastructureError: a file cannot be written.
    """
    report = load(results)
    files.write(results.junit, render_junit(report))
    against = compare(report, earlier) if earlier is not None else None
    files.write(results.html, render_html(report, results.folder, against))
    write_log_pages(report, results.folder)
    files.write(results.document, json.dumps(document(report), indent=2) + "\n")
    return report
