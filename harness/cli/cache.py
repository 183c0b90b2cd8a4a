"""``sysvm cache``: what the cache holds, what of it may go, and what other hosts may have of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from bundle.cli._options import json_option
from bundle.sink import show, tell, tell_json

if TYPE_CHECKING:
    from harness.vm.retention import CacheEntry


# What an interrupted fetching left goes when nobody went on with it for so long.
INCOMING_DAYS = 7.0


@click.group()
def cache() -> None:
    """Show, clean and share the cache of images and golden snapshots."""


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
    from harness.vm.depot.pull import collect_incoming

    fit = retention.parse_size(size) if size else None
    if days is None and fit is None:
        fit = retention.limit()
    chosen = retention.choose(retention.entries(), days=days, size=fit)
    if not dry_run:
        chosen = retention.remove(chosen)
        collect_leftovers()
        collect_incoming(INCOMING_DAYS if days is None else days)
    if as_json:
        tell_json([_facts(entry) for entry in chosen])
        return
    verb = "would remove" if dry_run else "removed"
    for entry in chosen:
        tell(f"{verb} {entry.kind} {entry.key[:12]} ({_mib(entry.size)})")
    tell(f"{verb} {len(chosen)} entries, {_mib(sum(entry.size for entry in chosen))}")


@cache.command()
@click.argument("depot")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--again", is_flag=True, help="Send also what the depot has: its disk may have damaged it.")
@json_option
def push(depot: str, keys: tuple[str, ...], again: bool, as_json: bool) -> None:
    """Send images and golden snapshots to a DEPOT: a folder, or ssh://[USER@]HOST[:PORT]/FOLDER.

    A KEY is that of 'sysvm cache list', or its beginning; without one everything is sent that the cache has. A snapshot
    brings its image along. What was interrupted goes on when it is called again.
    """
    from harness.cli import _share

    _share.push(depot, keys, again=again, as_json=as_json)


@cache.command()
@click.argument("depot")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@json_option
@click.pass_context
def pull(ctx: click.Context, depot: str, keys: tuple[str, ...], as_json: bool) -> None:
    """Fetch images and golden snapshots from a DEPOT: a folder, http(s)://... or ssh://[USER@]HOST[:PORT]/FOLDER.

    A KEY may be its beginning; without one everything comes that can be used here. A snapshot depends on QEMU, the
    accelerator, the processor and the program that made it: of one that does not fit the reason is told. Ends with 1
    when a KEY that was named did not come. What was interrupted goes on when it is called again.
    """
    from harness.cli import _share

    ctx.exit(_share.pull(depot, keys, as_json=as_json))


def _facts(entry: CacheEntry) -> dict[str, object]:
    from harness.vm import golden

    recorded = golden.recorded(entry.path) if entry.kind == "golden" else None
    return {
        "kind": entry.kind,
        "key": entry.key,
        "path": str(entry.path),
        "bytes": entry.size,
        "last_used": entry.used,
        "in_use": entry.pinned,
        **({"depends_on": recorded["ingredients"]} if recorded else {}),
    }


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
