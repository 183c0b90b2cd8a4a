"""``sysvm matrix``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from bundle.cli._options import json_option
from bundle.sink import show, tell, tell_json

if TYPE_CHECKING:
    from bundle.catalogue import Catalogue
    from bundle.matrix import SupportVerdict

_STYLES = {"yes": "green", "caveat": "yellow", "unknown": "magenta", "no": "red"}


def _explain(verdict: SupportVerdict) -> None:
    from bundle.matrix import WHOSE

    whose = WHOSE[verdict.script]
    tell(f"{verdict.template} -> {verdict.target}: {verdict.word} ({verdict.action}), with {whose}")
    for reason in verdict.reasons:
        about = f" [{', '.join(reason.types)}]" if reason.types else ""
        tell(f"  {reason.verdict}{about}: {reason.text}")
        tell(f"      source: {reason.source}")


def _table(verdicts: list[SupportVerdict], names: list[str], catalogue: Catalogue) -> None:
    from rich.table import Table

    from bundle.matrix import WHOSE

    whose = WHOSE[verdicts[0].script]
    table = Table(title=f"live patch from template (row) to release (column), with {whose}")
    table.add_column("template", no_wrap=True)
    table.add_column("Debian")
    for name in names:
        table.add_column(name, justify="center")
    words = {(row.template, row.target): row.word for row in verdicts}
    for template in dict.fromkeys(row.template for row in verdicts):
        release = catalogue.releases.get(".".join(template.split(".")[:2]))
        cells = [f"[{_STYLES[words[template, name]]}]{words[template, name]}[/]" for name in names]
        table.add_row(template, str(release.debian.number) if release else "9", *cells)
    show(table)
    tell("'sysvm matrix --from R --to R' says why, and names the source.")


def _listed(text: str, catalogue: Catalogue) -> list[str]:
    """Return the releases of a list; a single one is judged as it is named, also a point or an unknown one."""
    found: list[str] = []
    for part in text.split(","):
        found += catalogue.releases_in(part) if ".." in part or part == "all" else [part]
    return list(dict.fromkeys(found))


@click.command("matrix")
@click.option("--from", "template", metavar="R", help="Releases of templates: 4.20, 4.15,4.18..4.20, or all.")
@click.option("--to", "target", metavar="R", help="Releases to patch to, in the same words.")
@click.option(
    "--script",
    type=click.Choice(["ours", "upstream"]),
    default="ours",
    show_default=True,
    help="Whose patch-sysvms.sh does it: ours, or CloudStack's own of that release.",
)
@click.option("--points", is_flag=True, help="Show every point release.")
@click.option("--check", is_flag=True, help="Exit with 1 when an answer is 'no' or 'unknown'.")
@json_option
def matrix(
    template: str | None,
    target: str | None,
    script: Literal["ours", "upstream"],
    points: bool,
    check: bool,
    as_json: bool,
) -> int:
    """Say which template may be live patched to which release, why, and when it must be replaced instead."""
    from dataclasses import asdict

    from bundle import catalogue as catalogue_module
    from bundle.errors import Exit
    from bundle.matrix import judge, targets, templates

    catalogue = catalogue_module.load()
    rows = _listed(template, catalogue) if template else templates(catalogue, points=points)
    columns = _listed(target, catalogue) if target else targets(catalogue, points=points)
    verdicts = [judge(row, column, catalogue, script) for row in rows for column in columns]
    if as_json:
        tell_json([asdict(verdict) for verdict in verdicts])
    elif template or target:
        for verdict in verdicts:
            _explain(verdict)
    else:
        _table(verdicts, columns, catalogue)
    return Exit.FAILED if check and any(row.word in {"no", "unknown"} for row in verdicts) else Exit.OK
