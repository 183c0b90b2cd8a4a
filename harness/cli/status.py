"""``sysvm status``: what VMs run, what the bundle offers, and whether a live patch may bring it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundle.cli._options import json_option
from bundle.errors import Exit
from bundle.sink import cell, show, tell, tell_json
from harness.cli._targets import HostKeyWish, find_targets, load_bundle, target_options

if TYPE_CHECKING:
    from harness.management import StatusRow


@click.command()
@target_options
@click.option(
    "--release", metavar="R", help="Release of the bundle; the catalogue's newest when nothing is said."
)
@json_option
def status(
    names: tuple[str, ...],
    where: tuple[str, ...],
    key: Path | None,
    bundle: Path,
    release: str | None,
    host_keys: tuple[str, ...],
    trust_first: bool,
    as_json: bool,
) -> int:
    """Show installed and available scripts of many VMs at once; exits 3 when one cannot be asked."""
    from harness.management import status_of

    targets = find_targets(names, where, key, HostKeyWish(host_keys, trust_first))
    rows = status_of(targets, load_bundle(bundle), release)
    if as_json:
        tell_json([asdict(row) for row in rows])
    else:
        _table(rows)
    return Exit.INFRASTRUCTURE if any(row.error for row in rows) else Exit.OK


def _table(rows: tuple[StatusRow, ...]) -> None:
    from rich.table import Table

    table = Table()
    for column in ("VM", "template", "installed", "available", "live patch", "catalogue", "last patch"):
        table.add_column(column, overflow="fold", no_wrap=column == "VM")
    for row in rows:
        offered = (
            "cannot be asked" if row.error else "available" if row.live_patch_available else "not available"
        )
        cells = (
            row.name,
            row.template,
            row.installed[:12],
            row.available[:12],
            offered,
            row.verdict,
            row.last_patch,
        )
        table.add_row(*map(cell, cells))
    show(table)
    for row in rows:
        if row.error or row.reason:
            tell(row.error or f"{row.name}: {row.reason}")
        if row.way_out:
            tell(f"{row.name}: {row.last_patch.partition(':')[0]}; the way out: {row.way_out}")
