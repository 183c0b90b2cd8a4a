"""A VM that was born new: booted with the new release's scripts, the same command line and rules, and never patched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from harness import checks
from harness.checks import Case, Outcome
from harness.lab import reviewed
from harness.lab.golden_maker import GoldenMaker, ingredients, once
from harness.lab.lab import Lab
from harness.lab.management_network import MANAGEMENT_LOG, management_of
from harness.observe.observation import Observation
from harness.vm.system import SystemVm

# What the VM is called on the host, where the one that it is compared with has the scenario's name.
NAME = "newborn"
# What a patched VM must share with one that was born new; what services did and printed since is their own.
_LOOKS = (
    "files.kept", "files.setuid", "kernel.settings", "kernel.modules", "kernel.mounts", "kernel.swap", "rules",
    "units", "processes.none-new", "sockets", "ports", "sshd",
)  # fmt: skip


@contextmanager
def born_new(lab: Lab) -> Iterator[SystemVm]:
    """Yield a VM that was booted with the bundle that others are patched with; its snapshot is made when there is none.

    Raises:
        InfrastructureError: it does not boot.
        CheckFailed: a rule of the network is not answered.
    """
    parts = ingredients(
        lab.image, lab.new_bundle, lab.host, lab.engine, (lab.plan,), lab.network, lab.new.name
    )
    maker = GoldenMaker(
        lab.engine, lab.plan, lab.image, lab.new, lab.new_bundle, lab.network, lab.narrator, lab.results
    )
    with lab.narrator.step("golden snapshot of a VM that is born new"):
        made = once(parts, maker)
    vm = lab.engine.restore(NAME, lab.plan, lab.image, made.ssh_key, made.folder, reserved=True)
    try:
        log = lab.results.log(f"born-new/{MANAGEMENT_LOG}")
        with management_of(vm, made.folder, log, agent=lab.has_agent):
            yield vm
    finally:
        try:
            lab.keep_logs(vm, "born-new")
        finally:
            vm.stop()


def compare(vm_type: str, born: Observation, patched: Observation, control_address: str) -> list[Outcome]:
    """Return what a patched VM has that one that was born new has not, and the other way round.

    Only of what a patch may touch are contents compared: elsewhere no two VMs have files of the same age.
    """
    born, patched = (replace(seen, state=seen.state.only_known()) for seen in (born, patched))
    case = Case(
        vm_type=vm_type, expected="kept", before=born, patched=patched, after=patched, signature="",
        control_address=control_address,
    )  # fmt: skip
    return [_told(row) for row in checks.judge(case, only=_LOOKS)]


def _told(row: Outcome) -> Outcome:
    """Return an outcome in the words of this comparison, without what a person has reviewed."""
    row = replace(reviewed.without("born", row), name=f"born.{row.name}")
    if row.verdict != "failed":
        return row
    reason = row.reason.replace("right after the patch", "patched")
    return replace(row, reason=f"not so in a VM that is born new: {reason}")
