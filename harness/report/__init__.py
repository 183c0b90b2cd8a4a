"""The views of a run: JUnit for machines, a page for a browser, run.json as proof, a table for the terminal.

All are made from ``events.jsonl`` alone, so they can be made again at any time and never disagree.
"""

from __future__ import annotations

from bundle import files
from harness.record.events import read_with_gaps
from harness.record.results import ResultsFolder
from harness.report.against import Comparison, compare
from harness.report.assembly import build
from harness.report.formats import formats
from harness.report.html import PAGE, render_html, write_log_pages
from harness.report.junit import render_junit
from harness.report.rows import RunReport

__all__ = [
    "PAGE",
    "Comparison",
    "RunReport",
    "build",
    "compare",
    "load",
    "render_html",
    "render_junit",
    "write",
]


def load(results: ResultsFolder) -> RunReport:
    """Return the report of a run from its event log.

    Raises:
        UsageError: the log is missing or is none.
    """
    events, skipped = read_with_gaps(results.events)
    return build(events, results.name, skipped)


def write(results: ResultsFolder, earlier: RunReport | None = None) -> RunReport:
    """Write the files of all formats of a run from its event log and return the report.

    Args:
        results: the run's folder.
        earlier: a run that the page tells the differences from.

    Raises:
        UsageError: the log is missing or is none.
        InfrastructureError: a file cannot be written.
    """
    report = load(results)
    against = compare(report, earlier) if earlier is not None else None
    for each in formats():
        # The page links to the logs that lie beside it, and tells what is new.
        page = each.file == PAGE
        text = render_html(report, results.folder, against) if page else each.render(report)
        files.write(results.folder / each.file, text)
    write_log_pages(report, results.folder)
    return report
