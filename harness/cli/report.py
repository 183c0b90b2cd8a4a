"""``sysvm report``: make the views of a run again from its events, and show its table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from bundle.cli._options import json_option
from bundle.errors import Exit
from harness.cli._options import results_option


@click.command()
@click.argument("run", default="latest")
@results_option
@json_option
def report(run: str, root: Path, as_json: bool) -> int:
    """Write junit.xml and report.html of RUN (a name, a path or 'latest') again and print its table."""
    from rich.console import Console

    from harness import results
    from harness.report import write
    from harness.report.table import render_table

    found = results.find(run, root)
    views = write(found)
    if as_json:
        click.echo(json.dumps(asdict(views), indent=2))
    else:
        console = Console()
        if not console.is_terminal:
            console.width = 200  # a log file has no width, and a folded id cannot be searched for
        console.print(render_table(views))
        click.echo(f"report: {found.html}")
    return Exit.OK if views.verdict == "passed" else Exit.FAILED
