"""``sysvm patch``: live patch VMs, one after the other or side by side, with truthful progress and totals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from bundle.cli._options import json_option, renamed
from bundle.errors import CheckFailed, Exit, InfrastructureError
from bundle.sink import tell, tell_json
from harness.cli._targets import HostKeyWish, find_targets, load_bundle, target_options
from harness.record.severity import gravest_first

if TYPE_CHECKING:
    from harness.kvmagent.patch import BundleFiles
    from harness.lab.judged import Judged
    from harness.management import Target
    from harness.management.fleet import FleetRow
    from harness.management.server import Patched


class _FleetLines:
    """Tells on standard error what happens, one line an event."""

    def started(self, name: str) -> None:
        """Say that a VM's turn has come."""
        tell(f"{name}: patching", err=True)

    def ended(self, row: FleetRow, done: int, total: int) -> None:
        """Say what became of it, and how many are done."""
        tell(
            f"[{done}/{total}] {row.name}: {row.word} in {row.seconds:.1f} s: {_one_line(row.details)}",
            err=True,
        )


@dataclass
class _Judge:
    """Patches VMs, and judges those that are to be judged.

    Attributes:
        patch: patches one.
        files: the bundle.
        judged: names of the VMs to judge.
        verdicts: what the checks say, by VM.
    """

    patch: Callable[[Target], Patched]
    files: BundleFiles
    judged: frozenset[str]
    verdicts: dict[str, Judged] = field(default_factory=dict)

    def work(self, target: Target) -> Patched:
        """Patch a VM; one whose patch failed is judged all the same."""
        if target.name not in self.judged:
            return self.patch(target)
        from harness.lab.judged import patch_and_judge

        verdict = patch_and_judge(target.guest, self.files, lambda: self.patch(target))
        self.verdicts[target.name] = verdict
        if verdict.patched is None:
            raise CheckFailed(verdict.problem)
        return verdict.patched

    def any_failed(self) -> bool:
        """Say whether a check of any VM did not hold."""
        return any(verdict.failed for verdict in self.verdicts.values())

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the outcomes of a VM's checks, for a machine."""
        verdict = self.verdicts.get(name)
        found = [asdict(outcome) for outcome in verdict.outcomes] if verdict else []
        return [{key: value for key, value in row.items() if key != "excused"} for row in found]

    def lines(self) -> Iterator[str]:
        """Yield a line for each check that did not hold, the gravest of a VM first."""
        for name, verdict in self.verdicts.items():
            for line in gravest_first([f"{outcome.name}: {outcome.reason}" for outcome in verdict.failed]):
                yield f"{name}: {line}"

    def total(self) -> str:
        """Return how many checks held and did not hold, for the last line."""
        words = [outcome.verdict for verdict in self.verdicts.values() for outcome in verdict.outcomes]
        bad, idle = sum(word in {"failed", "error"} for word in words), words.count("skipped")
        counted = f"; {words.count('passed')} checks held, {bad} did not, {idle} had nothing to look at"
        return counted if words else ""


def _serial(_ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    """Say that one VM at a time is the default."""
    if value:
        tell("warning: --serial is the default, and goes with version 0.3", err=True)


@click.command()
@target_options
@renamed(
    "--forced",
    "--force",
    "forced",
    is_flag=True,
    help="Patch although the signature is the bundle's already.",
)
@click.option("--serial", is_flag=True, hidden=True, expose_value=False, callback=_serial)
@renamed(
    "--parallel",
    "--workers",
    "workers",
    type=click.IntRange(1, 256),
    metavar="N",
    default=1,
    show_default=True,
    help="VMs at the same time.",
)
@click.option("--max-failures", type=click.IntRange(1), help="Start no other VM once so many have failed.")
@renamed(
    "--time-limit",
    "--deadline",
    "deadline",
    type=click.FloatRange(1),
    metavar="SECONDS",
    default=900.0,
    show_default=True,
    help="Seconds for one VM.",
)
@click.option(
    "--agent",
    "dialect",
    type=click.Choice(["strict", "upstream"]),
    default="strict",
    show_default=True,
    help="How the script's answer is read.",
)
@click.option(
    "--judge/--no-judge",
    "judged",
    default=None,
    help="Observe each VM before and after, and make every check (the default for VMs of 'sysvm vm').",
)
@json_option
def patch(
    names: tuple[str, ...], where: tuple[str, ...], key: Path | None, bundle: Path, forced: bool,
    workers: int, max_failures: int | None, deadline: float, dialect: Literal["strict", "upstream"],
    judged: bool | None, host_keys: tuple[str, ...], trust_first: bool, as_json: bool,
) -> int:  # fmt: skip
    """Live patch VMs with a bundle, as the KVM agent does; exits 1 unless all are patched or current, and well."""
    from harness.management import Inventory, ManagementServer, Vm, patch_many

    targets, files = find_targets(names, where, key, HostKeyWish(host_keys, trust_first)), load_bundle(bundle)
    server = ManagementServer(Inventory(), files, dialect=dialect)
    vms = {target.name: Vm(target.name, target.name, None, target.guest) for target in targets}
    server.inventory.add(*vms.values())
    judge = _Judge(
        lambda target: server.patch(vms[target.name], forced=forced),
        files,
        frozenset(vms if judged else names if judged is None else ()),
    )
    summary = patch_many(
        targets,
        judge.work,
        _FleetLines(),
        parallel=workers,
        max_failures=max_failures,
        time_limit=deadline,
    )
    stuck = _ways_out(
        [target for target, row in zip(targets, summary.rows, strict=True) if row.word == "failed"]
    )
    if as_json:
        rows = [
            {**asdict(row), "checks": judge.rows(row.name), "way_out": stuck.get(row.name, "")}
            for row in summary.rows
        ]
        tell_json({"totals": summary.totals, "vms": rows})
    else:
        for row in summary.rows:
            if row.word == "not started":
                tell(f"{row.name}: not started: {row.details}", err=True)
        for name, way_out in stuck.items():
            tell(f"{name}: stuck between two releases; the way out: {way_out}", err=True)
        for line in judge.lines():
            tell(line, err=True)
        totals = ", ".join(f"{count} {word}" for word, count in summary.totals.items() if count)
        tell(f"{len(summary.rows)} VMs: {totals}{judge.total()}")
    return Exit.OK if summary.ok and not judge.any_failed() else Exit.FAILED


def _ways_out(targets: list[Target]) -> dict[str, str]:
    """Return what leads VMs out of a failed patch where nothing else does; one that cannot be reached says nothing."""
    from harness.management.status import last_patch

    found = {}
    for target in targets:
        with suppress(InfrastructureError):
            if way_out := last_patch(target.guest).way_out:
                found[target.name] = way_out
    return found


def _one_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
