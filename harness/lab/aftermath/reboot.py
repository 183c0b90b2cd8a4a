"""A reboot: the VM comes back with the same files, rules, kernel and services, and with no other scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from bundle.errors import InfrastructureError
from harness import checks, network
from harness.checks import Case, Outcome
from harness.guest.collect import answered
from harness.guest.connection import GuestStopped
from harness.host import wait
from harness.kvmagent.patch import ask_versions
from harness.lab import reviewed
from harness.lab.boots import COMES_UP
from harness.lab.faults import power
from harness.lab.management_network import site_of
from harness.observe import console_log, observation, rules
from harness.site.site import Site
from harness.vm.restart import RebootFailed
from harness.vm.system import SystemVm

# The check that a VM can be observed after it has come up again.
ANSWERS = "reboot.observed.answers"
# What the console says of the shutdown that was asked for.
_SHUTDOWN = (r"reboot: (Restarting system|Power down)",)
# Where one of these fails, nobody is there to answer.
GATES = (COMES_UP, ANSWERS)
_LOOKS = (
    "files.kept", "files.setuid", "kernel.settings", "kernel.modules", "kernel.mounts", "kernel.swap", "rules",
    "units", "services.up", "services.none-failed", "services.not-started", "processes", "sockets", "ports", "sshd",
    "identity", "observed", "console",
)  # fmt: skip


def reboot(
    vm: SystemVm, declared: network.Network | None, release: str, before: observation.Observation
) -> list[Outcome]:
    """Let a VM reboot, send it what the server sends one that starts, and compare it with before.

    Args:
        vm: the VM.
        declared: its network; None where nothing is declared.
        release: of the server.
        before: what was seen of it.

    Raises:
        InfrastructureError: its host does not start it again, or does not run it any more.
        CheckFailed: a rule was not applied.
    """
    printed = vm.console_log.stat().st_size
    try:
        power.reboot(vm)
    except RebootFailed as error:
        return [Outcome(COMES_UP, "failed", str(error))]
    try:
        told = ask_versions(vm.guest)
        filters = rules.parse(answered(vm.guest, _filters()))
    except GuestStopped:
        raise
    except InfrastructureError as error:
        vm.require_run()
        return [Outcome(COMES_UP, "failed", str(error))]
    wrong = "" if told.scripts == before.scripts.signature else (
        f"it runs {told.scripts[:16]}… since the reboot, {before.scripts.signature[:16]}… before"
    )  # fmt: skip
    found = [
        Outcome(COMES_UP, "passed"),
        Outcome("reboot.same-scripts", "failed" if wrong else "passed", wrong),
        let_in(before, filters),
    ]
    if (site := site_of(vm)) is not None:
        found.append(_agent_connects(site))
    if declared is not None:
        orders = network.Orders(declared, release, 0, (told.template, told.scripts))
        # Its NICs are there since its first boot.
        network.deliver(vm.guest, orders.start(), lambda _step: None)
    try:
        now = observation.observe(vm.guest)
    except GuestStopped:
        raise
    except InfrastructureError as error:
        vm.require_run()
        return [*found, Outcome(ANSWERS, "failed", str(error))]
    return [*found, *_compared(vm, before, now, console_log.printed_since(vm.console_log, printed))]


def _agent_connects(site: Site) -> Outcome:
    name = "reboot.agent-connects"
    try:
        site.connected()
    except wait.DeadlineExceeded as error:
        return Outcome(name, "failed", str(error))
    return Outcome(name, "passed")


def _compared(
    vm: SystemVm, before: observation.Observation, now: observation.Observation, console: str
) -> Iterator[Outcome]:
    """Yield what differs since before the reboot."""
    # Elsewhere than below the folders that a patch may touch, each boot writes files anew.
    before, after = (
        replace(seen, state=seen.state.only_known(), kernel=seen.kernel.of_any_boot) for seen in (before, now)
    )
    case = Case(
        vm_type=vm.topology.vm_type, expected="kept", before=before, patched=after, after=after,
        signature=now.scripts.signature, control_address=vm.topology.control.address, console=console,
        trouble=_SHUTDOWN,
    )  # fmt: skip
    for row in checks.judge(case, only=_LOOKS):
        left = reviewed.without("reboot", row)
        reason = left.reason.replace("right after the patch", "after the reboot")
        yield replace(left, name=f"reboot.{row.name}", reason=reason)


def _filters() -> dict[str, str]:
    return {name: command for name, command in rules.commands().items() if name.endswith("tables")}


def let_in(before: observation.Observation, now: Mapping[str, rules.RuleSet]) -> Outcome:
    """Return whether the VM lets in, before it is sent anything, what it did not let in before it rebooted."""
    wrong = []
    for name in ("iptables", "ip6tables"):
        old, new = before.rules[name].lines or (), now[name].lines or ()
        wrong += [line for line in new if line not in old and line.endswith(" ACCEPT") and " lo " not in line]
    reason = f"the packet filter after the boot has {wrong[0]}" if wrong else ""
    return Outcome("reboot.nobody-let-in", "failed" if wrong else "passed", reason, tuple(wrong))
