"""``sysvm repro``: a scenario of an earlier run, here, now, with a shell in the VM before and after."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundle.cli._options import PATH
from bundle.errors import UsageError
from bundle.sink import tell
from harness.cli import _complete
from harness.cli._options import results_option

if TYPE_CHECKING:
    from harness.report import RunReport


@click.command()
@click.argument("scenario", required=False)
@click.option(
    "--run",
    "name",
    default="latest",
    show_default=True,
    shell_complete=_complete.runs,
    help="The run: its name, its folder, or a folder or zip with the artifacts of a CI job.",
)
@results_option
@click.option(
    "--bundle",
    type=PATH,
    metavar="DIR",
    help="Patch with this bundle: the run's own, brought to this machine.",
)
@click.option(
    "--command",
    default=None,
    help="Run this in the VM before and after, instead of opening a shell; it may say nothing but its output.",
)
@click.option(
    "--stop-before-rollback",
    is_flag=True,
    help="Look into the VM at the failure of a patch, too, before it rolls back.",
)
def repro(
    scenario: str | None,
    name: str,
    root: Path,
    bundle: Path | None,
    command: str | None,
    stop_before_rollback: bool,
) -> int:
    """Repeat a scenario of an earlier run with a shell in its VM before and after.

    SCENARIO is its id, a part of it, or the id of a case in junit.xml; without one it is the only scenario that failed.
    A bundle that has changed since is refused, unless --bundle names it.
    """
    from harness.cli._judge import judge
    from harness.report.repeat import arguments_of, choose, tested_bundle

    with _report_of(name, root) as report:
        row = choose(report, scenario)
        arguments = arguments_of(report, row, bundle)
        tested = tested_bundle(report, row)
    _compare(arguments, tested, meant=bundle is not None)
    if command is None and not sys.stdin.isatty():
        raise UsageError("no terminal for a shell", hint="give a --command to run before and after instead")
    tell(f"repeating {row.id} of {report.name}", err=True)
    held = [f"--hold={command or ''}", *(["--stop-before-rollback"] if stop_before_rollback else [])]
    return judge([*arguments, f"--results={root.absolute()}", *held], as_json=False)


@contextmanager
def _report_of(name: str, root: Path) -> Iterator[RunReport]:
    """Yield the report of a run that lies in a folder or in a zip."""
    from harness.record import results
    from harness.report import load

    if not Path(name).is_file():
        yield load(results.find(name, root))
        return
    with tempfile.TemporaryDirectory() as folder:
        yield load(results.unpacked(Path(name), Path(folder)))


def _compare(arguments: list[str], tested: dict[str, str], *, meant: bool) -> None:
    """Say how the bundle differs from the one that the run had; refuse one that a person did not name.

    Raises:
        UsageError: the bundle at the run's own path is another one by now.
    """
    from harness.lab.tested import bundle_facts

    folder = next((word.partition("=")[2] for word in arguments if word.startswith("--bundle=")), "")
    if not folder or not tested:
        return
    here = bundle_facts(Path(folder))["files"]
    other = sorted(name for name in {*here, *tested} if here.get(name) != tested.get(name))
    if not other:
        return
    what = f"the bundle {folder} is not the one that the run tested: {', '.join(other)} differ"
    if not meant:
        raise UsageError(what, hint=f"bring that one here and name it, or mean this one: --bundle {folder}")
    tell(what, err=True)
