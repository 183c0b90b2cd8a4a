"""``sysvm report``: make the views of a run again from its events, and show its table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundle import files
from bundle.cli._options import PATH, json_option
from bundle.errors import Exit, UsageError
from bundle.sink import tell
from harness.cli import _complete
from harness.cli._options import results_option
from harness.cli._show import show_report

if TYPE_CHECKING:
    from harness.record.results import ResultsFolder


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...", shell_complete=_complete.runs)
@click.option(
    "--merge", is_flag=True, help="Make one run of the shards RUN..., all of them, and report that."
)
@results_option
@click.option("--junit", type=PATH, metavar="FILE", help="Write the JUnit file here, too.")
@click.option(
    "--against",
    "earlier",
    metavar="RUN",
    shell_complete=_complete.runs,
    help="Say what is new since this run.",
)
@click.option(
    "--markdown",
    is_flag=True,
    help="Print a summary in Markdown, as CI systems show it, in place of the table.",
)
@json_option
def report(
    runs: tuple[str, ...],
    merge: bool,
    root: Path,
    junit: Path | None,
    earlier: str | None,
    markdown: bool,
    as_json: bool,
) -> int:
    """Write junit.xml, report.html and run.json of RUN (a name, a path or 'latest') again and print its table."""
    from harness.record import results
    from harness.report import PAGE, compare, load, render_junit, write
    from harness.report.markdown import render_markdown

    if markdown and as_json:
        raise UsageError("--markdown and --json are two ways to print one report", hint="choose one")
    found = _merged(runs, root) if merge else results.find(_only(runs), root)
    before = load(results.find(earlier, root)) if earlier is not None else None
    views = write(found, before)
    if junit is not None:
        files.write(junit, render_junit(views))
    against = compare(views, before) if before is not None else None
    if markdown:
        tell(render_markdown(views, against).rstrip("\n"))
    else:
        show_report(views, found.folder / PAGE, as_json=as_json, against=against)
    return Exit.OK if views.verdict == "passed" else Exit.FAILED


def _only(runs: tuple[str, ...]) -> str:
    if len(runs) > 1:
        raise UsageError(
            f"one run is reported, and {len(runs)} are named", hint="--merge makes one of shards"
        )
    return runs[0] if runs else "latest"


def _merged(runs: tuple[str, ...], root: Path) -> ResultsFolder:
    """Return the folder of the run that the shards amount to."""
    from harness.record import results
    from harness.report.merge import check, merge

    if not runs:
        raise UsageError("no shards are named", hint="sysvm report --merge RUN RUN...")
    shards = [results.find(run, root) for run in runs]
    check(shards)
    made = results.create(root)
    merge(shards, made)
    return made
