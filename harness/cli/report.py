"""``sysvm report``: make the views of a run again from its events, and show its table."""

from __future__ import annotations

from pathlib import Path

import click

from bundle import files
from bundle.cli._options import PATH, json_option
from bundle.errors import Exit
from harness.cli import _complete
from harness.cli._options import results_option
from harness.cli._show import show_report


@click.command()
@click.argument("run", default="latest", shell_complete=_complete.runs)
@results_option
@click.option("--junit", type=PATH, metavar="FILE", help="Write the JUnit file here, too.")
@json_option
def report(run: str, root: Path, junit: Path | None, as_json: bool) -> int:
    """Write junit.xml, report.html and run.json of RUN (a name, a path or 'latest') again and print its table."""
    from harness.record import results
    from harness.report import PAGE, render_junit, write

    found = results.find(run, root)
    views = write(found)
    if junit is not None:
        files.write(junit, render_junit(views))
    show_report(views, found.folder / PAGE, as_json=as_json)
    return Exit.OK if views.verdict == "passed" else Exit.FAILED
