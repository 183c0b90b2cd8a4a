"""``sysvm matrix``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bundle.cli._options import json_option, print_json

if TYPE_CHECKING:
    from bundle.catalogue import Catalogue
    from bundle.matrix import Verdict

_STYLES = {"yes": "green", "caveat": "yellow", "no": "red"}


def _explain(verdict: Verdict) -> None:
    click.echo(f"{verdict.template} -> {verdict.target}: {verdict.word} ({verdict.action})")
    for reason in verdict.reasons:
        about = f" [{', '.join(reason.types)}]" if 0 < len(reason.types) < 7 else ""
        click.echo(f"  {reason.verdict}{about}: {reason.text}")
        click.echo(f"      source: {reason.source}")


def _table(verdicts: list[Verdict], names: list[str], catalogue: Catalogue) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="live patch from template (row) to release (column)")
    table.add_column("template")
    table.add_column("Debian")
    for name in names:
        table.add_column(name, justify="center")
    words = {(row.template, row.target): row.word for row in verdicts}
    for template in dict.fromkeys(row.template for row in verdicts):
        release = catalogue.releases.get(template)
        cells = [f"[{_STYLES[words[template, name]]}]{words[template, name]}[/]" for name in names]
        table.add_row(template, str(release.debian.number) if release else "9", *cells)
    Console().print(table)
    click.echo("'sysvm matrix --from R --to R' says why, and names the source.")


@click.command("matrix")
@click.option("--from", "template", metavar="R", help="Release of the template that the VM was made from.")
@click.option("--to", "target", metavar="R", help="Release to patch to.")
@json_option
def matrix(template: str | None, target: str | None, as_json: bool) -> None:
    """Say which template may be live patched to which release, why, and when it must be replaced instead."""
    from dataclasses import asdict

    from bundle import catalogue as catalogue_module
    from bundle.matrix import judge, targets, templates

    catalogue = catalogue_module.load()
    rows = [template] if template else templates(catalogue)
    columns = [target] if target else targets(catalogue)
    verdicts = [judge(row, column, catalogue) for row in rows for column in columns]
    if as_json:
        print_json([asdict(verdict) for verdict in verdicts])
    elif template or target:
        for verdict in verdicts:
            _explain(verdict)
    else:
        _table(verdicts, columns, catalogue)
