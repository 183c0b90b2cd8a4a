"""``sysvm cache``: what the cache holds, and what of it may go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from bundle.cli._options import json_option
from bundle.sink import show, tell, tell_json

if TYPE_CHECKING:
    from harness.vm.retention import CacheEntry


@click.group()
def cache() -> None:
    """Show and clean the cache of images and golden snapshots."""


@cache.command("list")
@json_option
def list_entries(as_json: bool) -> None:
    """List what is in the cache, the one used last first."""
    from harness.vm import retention

    found = retention.entries()
    if as_json:
        tell_json([_facts(entry) for entry in found])
        return
    from rich.table import Table

    table = Table("kind", "key", "size", "last used", "in use", box=None)
    for entry in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        table.add_row(entry.kind, entry.key[:12], _mib(entry.size), used, "yes" if entry.pinned else "")
    show(table)
    total = sum(entry.size for entry in found)
    tell(f"{_mib(total)} of {_mib(retention.limit())} ({retention.LIMIT_VARIABLE} sets the limit)")


@cache.command()
@click.option("--days", type=click.FloatRange(0), help="Remove what was not used for so long.")
@click.option("--size", help="Make the cache fit into so much (as 20G); alone, the limit that is set.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
@json_option
def gc(days: float | None, size: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove what was used longest ago; what running machines stand on stays."""
    from harness.image.images import collect_leftovers
    from harness.vm import retention

    fit = retention.parse_size(size) if size else None
    if days is None and fit is None:
        fit = retention.limit()
    chosen = retention.choose(retention.entries(), days=days, size=fit)
    if not dry_run:
        chosen = retention.remove(chosen)
        collect_leftovers()
    if as_json:
        tell_json([_facts(entry) for entry in chosen])
        return
    verb = "would remove" if dry_run else "removed"
    for entry in chosen:
        tell(f"{verb} {entry.kind} {entry.key[:12]} ({_mib(entry.size)})")
    tell(f"{verb} {len(chosen)} entries, {_mib(sum(entry.size for entry in chosen))}")


def _facts(entry: CacheEntry) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "key": entry.key,
        "path": str(entry.path),
        "bytes": entry.size,
        "last_used": entry.used,
        "in_use": entry.pinned,
    }


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
