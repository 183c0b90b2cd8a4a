"""How commands show the report of a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report import RunReport

_WIDTH = 200


def wide_console() -> Console:
    """Return a console for tables: as wide as the terminal; a log file has no width, and must not fold an id."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    return console


def show_report(report: RunReport, page: Path, *, as_json: bool) -> None:
    """Print a report.

    Args:
        report: of a run.
        page: where its view for a browser lies.
        as_json: print JSON in place of the table.
    """
    from harness.report.table import render_table

    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
        return
    wide_console().print(render_table(report))
    click.echo(f"report: {page}")
