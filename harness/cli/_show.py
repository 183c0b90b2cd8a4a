"""The report of a run, as commands show it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.sink import show, tell, tell_json

if TYPE_CHECKING:
    from harness.report import Comparison, RunReport


def show_report(report: RunReport, page: Path, *, as_json: bool, against: Comparison | None = None) -> None:
    """Print a report.

    Args:
        report: of a run.
        page: where its view for a browser lies.
        as_json: print JSON in place of the table.
        against: what differs from an earlier run.
    """
    from harness.report.table import render_table

    if as_json:
        compared = {"against": asdict(against)} if against is not None else {}
        tell_json({**asdict(report), **compared})
        return
    show(render_table(report))
    if against is not None:
        tell(against.summary)
        for name, lines in against.news.items():
            for line in lines:
                tell(f"    {name}: {line}")
    tell(f"report: {page}")
