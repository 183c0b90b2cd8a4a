"""The report of a run, as commands show it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.sink import show, tell, tell_json

if TYPE_CHECKING:
    from harness.report import RunReport


def show_report(report: RunReport, page: Path, *, as_json: bool) -> None:
    """Print a report.

    Args:
        report: of a run.
        page: where its view for a browser lies.
        as_json: print JSON in place of the table.
    """
    from harness.report.table import render_table

    if as_json:
        tell_json(asdict(report))
        return
    show(render_table(report))
    tell(f"report: {page}")
