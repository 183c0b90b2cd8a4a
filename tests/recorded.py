"""What the commands say, and how a run is shown, as recorded in ``tests/data``: a change of either is one on purpose.

``python -m tests.recorded`` records anew. The event log itself, of the default scenarios on a router, stays as it is:
views of logs that were written long ago must still be made.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import click
from click.testing import CliRunner
from rich.console import Console

from harness.cli import sysvm
from harness.record.events import read
from harness.record.results import ResultsFolder
from harness.report import load
from harness.report.formats import formats
from harness.report.table import render_table

DATA = Path(__file__).parent / "data"
HELP = DATA / "help.txt"
RUN = ResultsFolder(DATA / "recorded-run")
WIDTH = 100


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of a group and of every command below it."""
    yield words
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name)


def helps() -> str:
    """Return the help of every command."""
    found = []
    for words in commands(sysvm):
        done = CliRunner().invoke(sysvm, [*words, "--help"], prog_name="sysvm", terminal_width=WIDTH)
        assert done.exit_code == 0, done.output
        found.append(f"$ {' '.join(('sysvm', *words))} --help\n{done.output}")
    return "\n".join(found)


def views() -> dict[str, str]:
    """Return the views of the recorded run, by the names of their files; the page is one for eyes."""
    report = load(RUN)
    table = Console(file=StringIO(), width=160)
    table.print(render_table(report))
    assert isinstance(table.file, StringIO)
    made = {each.file: each.render(report) for each in formats() if not each.file.endswith(".html")}
    return {**made, "table.txt": table.file.getvalue()}


def fields(log: Path) -> dict[str, set[str]]:
    """Return the fields that each kind of event has in a log."""
    found: dict[str, set[str]] = {}
    for event in read(log):
        found.setdefault(event.kind, set()).update(event.fields)
    return found


if __name__ == "__main__":
    HELP.write_text(helps(), encoding="utf-8")
    for name, text in views().items():
        (RUN.folder / name).write_text(text, encoding="utf-8")
