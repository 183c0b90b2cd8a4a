"""``sysvm matrix``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bundle.cli._options import json_option
from bundle.sink import show, tell, tell_json

if TYPE_CHECKING:
    from bundle.catalogue import Catalogue
    from bundle.matrix import Verdict

_STYLES = {"yes": "green", "caveat": "yellow", "no": "red"}


def _explain(verdict: Verdict) -> None:
    tell(f"{verdict.template} -> {verdict.target}: {verdict.word} ({verdict.action})")
    for reason in verdict.reasons:
        about = f" [{', '.join(reason.types)}]" if 0 < len(reason.types) < 7 else ""
        tell(f"  {reason.verdict}{about}: {reason.text}")
        tell(f"      source: {reason.source}")


def _table(verdicts: list[Verdict], names: list[str], catalogue: Catalogue) -> None:
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
    show(table)
    tell("'sysvm matrix --from R --to R' says why, and names the source.")


def _templates(text: str, catalogue: Catalogue) -> list[str]:
    """Return the releases before the patch; one that is older than the whole catalogue is known as too old."""
    from bundle.catalogue import number_of

    oldest = min(row.number for row in catalogue.releases.values())
    if ".." not in text and "," not in text and text != "all" and number_of(text) < oldest:
        return [text]
    return catalogue.releases_in(text)


@click.command("matrix")
@click.option("--from", "template", metavar="R", help="Releases of templates: 4.20, 4.15,4.18..4.20, or all.")
@click.option("--to", "target", metavar="R", help="Releases to patch to, in the same words.")
@json_option
def matrix(template: str | None, target: str | None, as_json: bool) -> None:
    """Say which template may be live patched to which release, why, and when it must be replaced instead."""
    from dataclasses import asdict

    from bundle import catalogue as catalogue_module
    from bundle.matrix import judge, targets, templates

    catalogue = catalogue_module.load()
    rows = _templates(template, catalogue) if template else templates(catalogue)
    columns = catalogue.releases_in(target) if target else targets(catalogue)
    verdicts = [judge(row, column, catalogue) for row in rows for column in columns]
    if as_json:
        tell_json([asdict(verdict) for verdict in verdicts])
    elif template or target:
        for verdict in verdicts:
            _explain(verdict)
    else:
        _table(verdicts, columns, catalogue)
