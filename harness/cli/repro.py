"""``sysvm repro``: a scenario of an earlier run, here, now, with a shell in the VM before and after."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bundle.errors import UsageError
from bundle.sink import tell
from harness.cli import _complete
from harness.cli._options import results_option


@click.command()
@click.argument("scenario", required=False)
@click.option(
    "--run",
    "name",
    default="latest",
    show_default=True,
    shell_complete=_complete.runs,
    help="The run: its name or its folder.",
)
@results_option
@click.option(
    "--command",
    default=None,
    help="Run this in the VM before and after, instead of opening a shell; it may say nothing but its output.",
)
def repro(scenario: str | None, name: str, root: Path, command: str | None) -> int:
    """Repeat a scenario of an earlier run with a shell in its VM before and after.

    SCENARIO is its id or a part of it; without one it is the only scenario that failed.
    """
    from harness.cli._judge import judge
    from harness.record import results
    from harness.report import load
    from harness.report.repeat import arguments_of, choose

    report = load(results.find(name, root))
    row = choose(report, scenario)
    if command is None and not sys.stdin.isatty():
        raise UsageError("no terminal for a shell", hint="give a --command to run before and after instead")
    arguments = [*arguments_of(report, row), f"--results={root.absolute()}", f"--hold={command or ''}"]
    tell(f"repeating {row.id} of {report.name}", err=True)
    return judge(arguments, as_json=False)
