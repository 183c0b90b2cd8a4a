"""A VM that was born new: booted with the new release's scripts, the same command line and rules, and never patched."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from harness import checks
from harness.checks import Case, Outcome, shipped
from harness.kvmagent.patch import ask_versions, load_bundle
from harness.lab import reviewed
from harness.lab.golden_maker import GoldenMaker, ingredients, once
from harness.lab.lab import Lab
from harness.lab.management_network import MANAGEMENT_LOG, management_of
from harness.network import Orders, deliver
from harness.observe.observation import Observation
from harness.vm import golden
from harness.vm.system import SystemVm

# What the VM is called on the host, where the one that it is compared with has the scenario's name.
NAME = "newborn"
# What a patched VM must share with one that was born new; what services did and printed since is their own.
_LOOKS = (
    "files.kept", "files.setuid", "kernel.settings", "kernel.modules", "kernel.mounts", "kernel.swap", "rules",
    "units", "processes.none-new", "sockets", "ports", "sshd", "identity.agent-properties", "observed",
)  # fmt: skip


@contextmanager
def born_new(lab: Lab) -> Iterator[SystemVm]:
    """Yield a VM that was booted with the bundle that others are patched with; its snapshot is made when there is none.

    Its template never had the old scripts, unless a person named the template: that one is taken as it is. Its command
    line is the one of the VMs that are patched, their key with it.

    Raises:
        InfrastructureError: it does not boot.
        CheckFailed: a rule of the network is not answered.
    """
    with lab.narrator.step("template image of a VM that is born new"):
        template = lab.image if lab.wish.template else lab.wish.built_image(lab.new_bundle)
    parts = ingredients(
        template, lab.new_bundle, lab.host, lab.engine, (lab.plan,), lab.network, lab.new.name
    )
    maker = GoldenMaker(
        lab.engine, lab.plan, template, lab.new, lab.new_bundle, lab.network, lab.narrator, lab.results,
        keys=lab.golden.folder, sender=lab.old,
    )  # fmt: skip
    with lab.narrator.step("golden snapshot of a VM that is born new"):
        also = {"public key": golden.public_key(lab.golden.folder), "command line": lab.old.name}
        made = once({**parts, **also}, maker)
    vm = lab.engine.restore(NAME, lab.plan, template, made.ssh_key, made.folder, reserved=True)
    try:
        log = lab.results.log(f"born-new/{MANAGEMENT_LOG}")
        with management_of(vm, made.folder, log, agent=lab.has_agent):
            yield vm
    finally:
        try:
            lab.keep_logs(vm, "born-new")
        finally:
            vm.stop()


def send_alike(lab: Lab, born: SystemVm, patched: SystemVm) -> None:
    """Send two VMs what the new release's server sends one that starts, as of one moment; their NICs are there.

    Raises:
        CheckFailed: a rule was not applied.
    """
    if lab.network is None:
        return
    with lab.narrator.step("send both the same rules"):
        told = ask_versions(born.guest)
        orders = Orders(
            lab.network, lab.new.name, int(time.time() * 1000), (told.template, told.scripts)
        ).start()
        for vm in (born, patched):
            deliver(vm.guest, orders, lambda _step: None)


def left_over(lab: Lab) -> frozenset[str]:
    """Return what a template that a person named has of the old release, over which a boot unpacks the new one."""
    if not lab.wish.template:
        return frozenset()
    old, new = (
        shipped.read(load_bundle(folder), lab.wish.vm_type) for folder in (lab.old_bundle, lab.new_bundle)
    )
    return frozenset(old.keys() - new.keys())


def compare(
    vm_type: str, born: Observation, patched: Observation, control_address: str,
    dropped: Collection[str] = (),
) -> list[Outcome]:  # fmt: skip
    """Return what a patched VM has that one that was born new has not, and the other way round.

    Only of what a patch may touch are contents compared: elsewhere no two VMs have files of the same age.

    Args:
        vm_type: of both.
        born: the VM that was born new.
        patched: the other.
        control_address: of both.
        dropped: paths that the patched VM need not have, as :func:`left_over` says; that it has none of them is what
            ``files.removed`` looks at.
    """
    entries = born.state.entries
    kept = {path: entry for path, entry in entries.items() if path not in dropped or path in patched.state}
    born = replace(born, state=replace(born.state, entries=kept))
    born, patched = (
        replace(seen, state=seen.state.only_known(), kernel=seen.kernel.of_any_boot)
        for seen in (born, patched)
    )
    case = Case(
        vm_type=vm_type, expected="kept", before=born, patched=patched, after=patched, signature="",
        control_address=control_address,
    )  # fmt: skip
    return [_told(row) for row in checks.judge(case, only=_LOOKS)]


def _told(row: Outcome) -> Outcome:
    """Return an outcome in the words of this comparison, without what a person has reviewed."""
    row = replace(reviewed.without("born", row), name=f"born.{row.name}")
    reason = row.reason.replace("right after the patch", "patched").replace("before the patch", "born new")
    if row.verdict == "failed":
        reason = f"not so in a VM that is born new: {reason}"
    return replace(row, reason=reason)
