"""``sysvm bundle diff``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH, json_option
from bundle.sink import tell, tell_json


@click.command("diff")
@click.argument("old", type=PATH)
@click.argument("new", type=PATH)
@json_option
@click.option(
    "--markdown", "form", flag_value="markdown", help="Print one page of Markdown, with the changed lines."
)
@click.option("--html", "form", flag_value="html", help="Print one page of HTML, with the changed lines.")
@click.option(
    "--lines",
    type=click.IntRange(0, 100_000),
    default=200,
    show_default=True,
    help="The most changed lines of a file that --markdown and --html show.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 when anything differs.")
def command(old: Path, new: Path, as_json: bool, form: str | None, lines: int, exit_code: bool) -> int:
    """Say what differs between two bundles, archives, source trees or folders with the three files.

    And what that means on a VM: what the script restarts in any case, and who reads what changed.
    """
    from bundle import catalogue
    from bundle.errors import Exit, UsageError
    from bundle.inspect import diff_report
    from bundle.inspect.contents import take
    from bundle.inspect.diff import compare
    from bundle.inspect.lines import changed_lines

    if form and as_json:
        raise UsageError(f"--json and --{form} are two forms", hint="choose one")
    before, after = take(old), take(new)
    found = compare(before, after, catalogue.load())
    places = (*found.added, *found.removed, *found.changed)
    texts = changed_lines(before, after, places, lines) if form else ()
    said = diff_report.document(found, str(old), str(new), texts)
    if as_json:
        tell_json(said)
    else:
        render = {"markdown": diff_report.markdown, "html": diff_report.html}.get(
            form or "", diff_report.text
        )
        tell(render(said).removesuffix("\n"))
    return Exit.FAILED if exit_code and not found.empty else Exit.OK
