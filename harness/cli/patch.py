"""``sysvm patch``: live patch VMs, one after the other or side by side, with truthful progress and totals."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bundle.cli._options import json_option
from bundle.errors import Exit, UsageError
from harness.cli._targets import find_targets, load_bundle, target_options

if TYPE_CHECKING:
    from harness.management.fleet import FleetRow


class _Lines:
    """Tells on standard error what happens, one line an event."""

    def started(self, name: str) -> None:
        """Say that a VM's turn has come."""
        click.echo(f"{name}: patching", err=True)

    def ended(self, row: FleetRow, done: int, total: int) -> None:
        """Say what became of it, and how many are done."""
        click.echo(
            f"[{done}/{total}] {row.name}: {row.word} in {row.seconds:.1f} s: {_one_line(row.details)}",
            err=True,
        )


@click.command()
@target_options
@click.option("--forced", is_flag=True, help="Patch although the signature is the bundle's already.")
@click.option("--serial", is_flag=True, help="One VM after the other (the default).")
@click.option("--parallel", type=click.IntRange(1, 256), help="So many VMs at a time.")
@click.option("--max-failures", type=click.IntRange(1), help="Start no other VM once so many have failed.")
@click.option(
    "--time-limit", type=click.FloatRange(1), default=900.0, show_default=True, help="Seconds for one VM."
)
@click.option(
    "--agent",
    "dialect",
    type=click.Choice(["strict", "upstream"]),
    default="strict",
    show_default=True,
    help="How the script's answer is read.",
)
@json_option
def patch(
    names: tuple[str, ...], where: tuple[str, ...], key: Path | None, bundle: Path, forced: bool, serial: bool,
    parallel: int | None, max_failures: int | None, time_limit: float, dialect: Literal["strict", "upstream"],
    as_json: bool,
) -> int:  # fmt: skip
    """Live patch VMs with a bundle, as the KVM agent does; exits 1 unless all are patched or current."""
    from harness.management import Inventory, ManagementServer, Vm, patch_many

    if serial and parallel:
        raise UsageError("--serial and --parallel exclude each other")
    targets, files = find_targets(names, where, key), load_bundle(bundle)
    server = ManagementServer(Inventory(), files, dialect=dialect)
    vms = {target.name: Vm(target.name, target.name, None, target.guest) for target in targets}
    server.inventory.add(*vms.values())
    summary = patch_many(
        targets,
        lambda target: server.patch(vms[target.name], forced=forced),
        _Lines(),
        parallel=parallel or 1,
        max_failures=max_failures,
        time_limit=time_limit,
    )
    if as_json:
        rows = [asdict(row) for row in summary.rows]
        click.echo(json.dumps({"totals": summary.totals, "vms": rows}, indent=2))
    else:
        for row in summary.rows:
            if row.word == "not started":
                click.echo(f"{row.name}: not started: {row.details}", err=True)
        totals = ", ".join(f"{count} {word}" for word, count in summary.totals.items() if count)
        click.echo(f"{len(summary.rows)} VMs: {totals}")
    return Exit.OK if summary.ok else Exit.FAILED


def _one_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
