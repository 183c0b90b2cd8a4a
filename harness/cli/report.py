"""``sysvm report``: make the views of a run again from its events, and show its table."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import json_option
from bundle.errors import Exit
from harness.cli._options import results_option
from harness.cli._show import show_report


@click.command()
@click.argument("run", default="latest")
@results_option
@json_option
def report(run: str, root: Path, as_json: bool) -> int:
    """Write junit.xml and report.html of RUN (a name, a path or 'latest') again and print its table."""
    from harness.record import results
    from harness.report import write

    found = results.find(run, root)
    views = write(found)
    show_report(views, found.html, as_json=as_json)
    return Exit.OK if views.verdict == "passed" else Exit.FAILED
