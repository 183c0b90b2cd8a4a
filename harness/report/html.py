"""The browser's view: one page that needs nothing else; a guest's output is never more than text in it.

What a person reads first (verdict, first cause, what was tested, counts, matrix) is plain HTML. The scenarios are rows
that ``page.js`` makes on demand from the data that lies in the page. A policy in the page lets this very script and
style run, by their digests, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path
from urllib.parse import quote

from jinja2 import BaseLoader, Environment, StrictUndefined
from markupsafe import Markup

from bundle import files
from bundle.sink import escape
from harness.report.against import Comparison
from harness.report.cause import Cause, first_cause
from harness.report.data import page_data
from harness.report.document import proof, tested
from harness.report.formats import report_format
from harness.report.logpages import LogPage, LogPages, pages_of, with_pages
from harness.report.matrix import matrix
from harness.report.rows import RunReport, ScenarioRow
from harness.report.table import gap_text

PAGE = "report.html"
_MARKS = {"passed": "✓", "failed": "✗", "error": "✗", "skipped": "–"}


def render_html(report: RunReport, folder: Path | None = None, against: Comparison | None = None) -> str:
    """Return the page of a run.

    Args:
        report: of the run.
        folder: of the run, in which its logs lie; without it nothing is linked to a line of a log.
        against: what differs from an earlier run.
    """
    chosen = with_pages(report)

    def pages(row: ScenarioRow) -> LogPages:
        return pages_of(row, folder) if folder is not None and row.id in chosen else LogPages()

    script, style = _asset("page.js"), _asset("page.css")
    cause = first_cause(report)
    return _render(
        "report.html.j2", report=report, cause=cause, quoted=_quoted(report, cause, pages),
        tested=tested(report), proof=proof(report), matrix=matrix(report), marks=_MARKS,
        against=against, checks=_Counts.of(report),
        data=page_data(report, pages, against.news if against else None),
        script=script, script_digest=_digest(script), style=style, style_digest=_digest(style),
    )  # fmt: skip


report_format(PAGE)(render_html)


def write_log_pages(report: RunReport, folder: Path) -> None:
    """Write the pages of the logs of the scenarios that did not pass, each beside its log.

    Raises:
        InfrastructureError: a file cannot be written.
    """
    chosen = with_pages(report)
    for row in report.scenarios:
        if row.id in chosen:
            for page in pages_of(row, folder).pages:
                files.write(folder / f"{page.name}.html", render_log(page))


def render_log(page: LogPage) -> str:
    """Return a log as a page whose every line has an address."""
    style = _asset("page.css")
    return _render("log.html.j2", page=page, style=style, style_digest=_digest(style))


@dataclass(frozen=True)
class _Counts:
    """The numbers of a run's checks that passed, failed and were skipped."""

    passed: int
    failed: int
    skipped: int

    @classmethod
    def of(cls, report: RunReport) -> _Counts:
        rows = (*report.scenarios, report.common)
        return cls(
            *(sum(len(getattr(row, kind)) for row in rows) for kind in ("held", "failures", "skipped"))
        )


def _quoted(
    report: RunReport, cause: Cause | None, pages: Callable[[ScenarioRow], LogPages]
) -> list[tuple[str, str]]:
    """Return the lines that prove the cause, each with the address at which it stands in a log."""
    if cause is None:
        return []
    row = next((row for row in report.scenarios if row.id == cause.scenario), None)
    places = pages(row).places(cause.lines) if row else [""] * len(cause.lines)
    return list(zip(cause.lines, places, strict=True))


def _render(template: str, **values: object) -> str:
    environment = Environment(
        loader=BaseLoader(), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=_shown,
    )  # fmt: skip
    environment.filters["gap"] = gap_text
    environment.filters["fragment"] = lambda text: quote(escape(text), safe="")
    return environment.from_string(_asset(template)).render(**values)


def _shown(value: object) -> object:
    """Return a value of the template with nothing in it that turns or hides writing; our own markup stays."""
    return escape(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> str:
    return (resources("harness.report") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
