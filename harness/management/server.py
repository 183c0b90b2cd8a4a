"""The server's calls: patchSystemVm, restartNetwork, restartVPC, without the known faults of CloudStack's own.

There, a router is patched once for each tier of its VPC and an internal load balancer never, a failed patch does not
fail the restart, jobs for one VM run at once, and nobody asks afterwards whether the VM runs what it was given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from bundle import catalogue
from bundle.errors import CheckFailed, InfrastructureError, UsageError
from harness import network
from harness.kvmagent import patch
from harness.kvmagent.patch import BundleFiles, Dialect, Versions
from harness.management import gate, health
from harness.management.inventory import Inventory, NetworkRow, Vm, VpcRow
from harness.management.redundancy import SETTLE_DEADLINE, RedundancyGroup
from harness.network import Network
from harness.record.events import Emitter, Nowhere

RESTARTABLE = {"Implemented", "Setup"}
# Is told what a call does at the moment, in words for a person.
Tell: TypeAlias = Callable[[str], None]


def silent(text: str) -> None:
    """Pass over what a call does."""


class Refused(UsageError):
    """The call has an invalid parameter, or its object is in no state for it; nothing was touched."""


@dataclass(frozen=True)
class Patched:
    """The result of one VM in a call."""

    vm: str
    changed: bool
    details: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Restart:
    """The result of a restart.

    Attributes:
        live: whether the routers were patched where they stood.
        rebuilt: whether they were made anew (a rolling restart).
        vms: the VMs that were patched or found to be current, in order.
        rules: how many rule files were sent again.
        notes: what was asked for and not done, with the reason.
    """

    live: bool = False
    rebuilt: bool = False
    vms: tuple[Patched, ...] = ()
    rules: int = 0
    notes: tuple[str, ...] = ()


@dataclass
class ManagementServer:
    """A management server, which carries out calls on an inventory.

    Attributes:
        inventory: its tables.
        bundle: the trio that it has.
        hosts: the trio that its hosts have, and upload; None means the same.
        release: of the server, which decides what its messages look like.
        minimum_template: the oldest template whose routers it talks to.
        dialect: how the KVM agents read the script's answer.
        rebuild: makes and boots a router anew for a rolling restart; None where that is not possible.
        plug: gives a router that was made anew its next NIC, by name; None where none can be plugged in.
        events: where it tells what it does.
        settle_deadline: seconds for a redundant pair to settle.
    """

    inventory: Inventory
    bundle: BundleFiles
    release: str = field(default_factory=lambda: catalogue.load().default)
    minimum_template: str = gate.MINIMUM_TEMPLATE
    dialect: Dialect = "strict"
    hosts: BundleFiles | None = None
    rebuild: Callable[[Vm], None] | None = None
    plug: Callable[[Vm, str], None] | None = None
    events: Emitter = field(default_factory=Nowhere)
    settle_deadline: float = SETTLE_DEADLINE
    _jobs: dict[str, threading.Lock] = field(default_factory=dict, repr=False)
    _table: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def version(self) -> str:
        """The server's release with four numbers, such as ``4.22.0.0``."""
        return gate.four_numbers(self.release)

    def patch_system_vm(self, vm_id: str, *, forced: bool = False, tell: Tell = silent) -> Patched:
        """Patch a console proxy or a secondary storage VM; ``tell`` is told what is done.

        Raises:
            UsageError: there is no such VM, or the catalogue does not have its type.
            Refused: it is of another type.
            CheckFailed: it is not running, or the patch failed.
        """
        if not vm_id:
            raise Refused("invalid parameter id: it is missing")
        vm = self.inventory.vm(vm_id)
        if vm.kind.patched_by != "patchSystemVm":
            raise Refused(
                f"invalid parameter id: {vm.name} is a {vm.type}; "
                "patchSystemVm API can be used to patch CPVM / SSVM only.",
                hint="restart its network with livepatch=true",
            )
        return self.patch(vm, forced=forced, tell=tell)

    def restart_network(
        self,
        network_id: str,
        *,
        cleanup: bool = False,
        make_redundant: bool = False,
        live_patch: bool = False,
        tell: Tell = silent,
    ) -> Restart:
        """Restart a network; with ``live_patch`` its routers are patched where they stand.

        Of a tier, all routers of its VPC are patched, each once. A router that fails fails the call, and the
        network keeps "restart required".

        Raises:
            UsageError: there is no such network.
            Refused: its state or the combination of parameters forbids it.
            CheckFailed: a router could not be patched, or a rule not be sent.
        """
        row = self.inventory.network(network_id)
        if row.sdn:
            raise Refused(f"network {row.id}: Unable to restart a running SDN network.")
        if row.state not in RESTARTABLE:
            raise Refused(
                f"network {row.id} is {row.state}; only {' and '.join(sorted(RESTARTABLE))} ones are restarted"
            )
        if row.vpc and cleanup:
            raise Refused(f"network {row.id}: Cannot restart a VPC tier with cleanup")
        if make_redundant and not row.redundant:
            if not row.offers_redundancy:
                raise Refused(f"network {row.id}: its offering does not support redundant routers")
            cleanup = True
        if row.vpc:
            vpc = self.inventory.vpc(row.vpc)
            routers = self.inventory.routers_of_vpc(row.vpc)
            return self._restart(routers, vpc, [row], vpc.declared, cleanup, live_patch, tell)
        routers = self.inventory.routers_of_network(row.id)
        return self._restart(routers, row, [row], row.declared, cleanup, live_patch, tell)

    def restart_vpc(
        self, vpc_id: str, *, cleanup: bool = False, make_redundant: bool = False, live_patch: bool = False,
        tell: Tell = silent,
    ) -> Restart:  # fmt: skip
        """Restart a VPC; with ``live_patch`` each of its routers is patched exactly once, whatever its tiers.

        Raises:
            UsageError: there is no such VPC.
            Refused: the combination of parameters forbids it.
            CheckFailed: a router could not be patched, or a rule not be sent.
        """
        vpc = self.inventory.vpc(vpc_id)
        if make_redundant and not vpc.redundant:
            if not vpc.offers_redundancy:
                raise Refused(f"VPC {vpc.id}: its offering does not support redundant routers")
            cleanup = True
        tiers = self.inventory.tiers(vpc_id)
        up = [tier for tier in tiers if tier.state in RESTARTABLE]
        idle = tuple(
            f"tier {tier.id} is {tier.state}: it has no rules to send" for tier in tiers if tier not in up
        )
        routers = self.inventory.routers_of_vpc(vpc_id)
        done = self._restart(routers, vpc, [vpc, *up], vpc.declared, cleanup, live_patch, tell)
        return Restart(done.live, done.rebuilt, done.vms, done.rules, (*done.notes, *idle))

    def _restart(
        self,
        routers: Sequence[Vm],
        owner: NetworkRow | VpcRow,
        rows: Sequence[NetworkRow | VpcRow],
        declared: Network | None,
        cleanup: bool,
        live_patch: bool,
        tell: Tell,
    ) -> Restart:
        rebuild = self.rebuild
        if cleanup and rebuild is None:
            raise Refused("a rolling restart is not possible here: nothing can make routers anew")
        self.inventory.restart_is_due(rows, True)
        notes: tuple[str, ...] = ()
        patched: list[Patched] = []
        if cleanup and rebuild:
            if live_patch:
                notes = ("cleanup was asked for: the routers are made anew, none is patched live",)
            for vm in routers:
                rebuild(vm)
        elif live_patch:
            patched = list(self._patch_in_order(routers, owner.redundant, tell))
        rules = self._send_rules(routers, declared, tell, anew=cleanup)
        self.inventory.restart_is_due(rows, False)
        return Restart(live_patch and not cleanup, cleanup, tuple(patched), rules, notes)

    def _patch_in_order(self, routers: Sequence[Vm], redundant: bool, tell: Tell) -> Iterator[Patched]:
        """Patch routers one after the other; of a pair the backup first, and wait for the pair after each."""
        own = [vm for vm in routers if vm.kind.family == "router"]
        if redundant and len(own) > 1:
            for vm in own:
                self._must_run(vm)
            pair = RedundancyGroup(own, lambda vm: health.role(vm.guest), self.settle_deadline)
            for vm in pair.in_order():
                yield self.patch(vm, tell=tell)
                tell("waiting for the pair to settle")
                pair.settle()
        else:
            for vm in own:
                yield self.patch(vm, tell=tell)
        for vm in routers:
            if vm not in own:
                yield self.patch(vm, tell=tell)

    def _send_rules(self, routers: Sequence[Vm], declared: Network | None, tell: Tell, *, anew: bool) -> int:
        """Send rules again; a router that was made anew is first sent all that a starting one is."""
        sent = 0
        for vm in routers:
            told = vm.kind.has & ({"rules", "machines"} if anew else {"rules"})
            own = vm.declared or (declared if told else None)
            if own is None or not (anew or network.bags_of(self._orders(own).reapply())):
                continue
            with self.turn(vm, tell):
                tell(f"{vm.name}: sending its rules")
                versions = patch.ask_versions(vm.guest)
                self._pass_gate(vm, versions)
                orders = self._orders(own, versions)
                steps = (*orders.start(), *orders.reapply()) if anew else orders.reapply()
                sent += network.deliver(vm.guest, steps, partial(self._plug, vm)).bags
            self.events.emit("rules", vm=vm.name, reapplied=own.rule_count)
        return sent

    def check_health(self, vm: Vm, *, fresh: bool) -> tuple[health.HealthCheck, ...]:
        """Return what a router's health checks say; before fresh ones it is told what they compare it with.

        Its versions are told as the server believes them, so that a router which is not what its patch said finds that
        out itself. One that does not take what it is told is asked for its last results, as CloudStack does.

        Raises:
            InfrastructureError: it cannot be asked, or its answer cannot be read.
        """
        with self.turn(vm):
            declared = self._declared(vm) if fresh else None
            if declared is not None:
                known = self.inventory.vm(vm.id)
                told = known.template_version and known.scripts_version
                versions = Versions(known.template_version, known.scripts_version) if told else None
                try:
                    network.deliver(vm.guest, self._orders(declared, versions).health_refreshed())
                except CheckFailed:
                    fresh = False
            return health.monitor(vm.guest, fresh=fresh)

    def _declared(self, vm: Vm) -> Network | None:
        """Return the network that a router serves, as it sees it."""
        rows = (self.inventory.vpcs.get(vm.vpc), *map(self.inventory.networks.get, vm.networks))
        return vm.declared or next((row.declared for row in rows if row and row.declared), None)

    def _orders(self, declared: Network, versions: Versions | None = None) -> network.Orders:
        told = (versions.template, versions.scripts) if versions else None
        return network.Orders(declared, self.release, int(time.time() * 1000), told)

    def _plug(self, vm: Vm, step: network.Plug) -> None:
        if self.plug is None:
            raise InfrastructureError(f"{vm.name}: nothing here can plug in {step.device}")
        self.plug(vm, step.device)

    def patch(self, vm: Vm, *, forced: bool = False, tell: Tell = silent) -> Patched:
        """Patch one VM of whatever type, one job at a time, and believe it only after asking.

        Raises:
            UsageError: the catalogue does not have its type.
            CheckFailed: the patch failed, or the VM is not what it says, or worse off than before.
            InfrastructureError: the VM cannot be asked.
        """
        with self.turn(vm, tell):
            self._must_run(vm)
            self._same_on_hosts()
            tell(f"{vm.name}: asking what runs")
            before = health.active_services(vm.guest)
            stale = vm.may_have_agent and not forced and health.agent_is_stale(vm.guest, self.bundle)
            tell(f"{vm.name}: patching")
            answer = patch.patch(vm.guest, self.bundle, forced=forced or stale, dialect=self.dialect)
            self.events.emit(
                "patch", vm=vm.name, success=answer.success, details=answer.details, seconds=answer.seconds
            )
            if not answer.success:
                raise CheckFailed(f"{vm.name}: the live patch failed: {answer.details}")
            tell(f"{vm.name}: verifying")
            versions = patch.ask_versions(vm.guest)
            self.inventory.learn(vm.id, versions.template, versions.scripts)
            if versions.scripts != self.bundle.signature:
                raise CheckFailed(
                    f"{vm.name}: it reported success, but runs {versions.scripts[:12]}…, "
                    f"not {self.bundle.signature[:12]}…"
                )
            self.inventory.change(vm.id, software_version=self.version)
            self._pass_gate(vm, versions)
            if lost := before - health.active_services(vm.guest):
                raise CheckFailed(f"{vm.name}: it reported success, but {', '.join(sorted(lost))} went down")
            return Patched(vm.name, answer.patched, answer.details, answer.seconds)

    def _pass_gate(self, vm: Vm, versions: Versions) -> None:
        if reason := gate.refusal(versions, self.bundle.signature, self.minimum_template):
            raise CheckFailed(f"{vm.name}: {reason}")

    def _same_on_hosts(self) -> None:
        """Refuse to patch with files other than the server's own: it would never believe the VM afterwards."""
        if self.hosts is None:
            return
        for name, content in self.bundle.contents.items():
            if self.hosts.contents[name] != content:
                raise Refused(
                    f"the host's {self.hosts.folder / name} is not the management server's "
                    f"({self.hosts.signature[:12]}…, not {self.bundle.signature[:12]}…)",
                    hint="bring the host to the management server's release first",
                )

    @staticmethod
    def _must_run(vm: Vm) -> None:
        if vm.state != "Running":
            raise CheckFailed(
                f"Unable to patch SystemVM: {vm.name} is {vm.state}, not in Running state.",
                hint="please destroy and recreate the SystemVM",
            )

    def is_busy(self, vm: Vm) -> bool:
        """Say whether a job is on a VM at this moment."""
        with self._table:
            return vm.id in self._jobs and self._jobs[vm.id].locked()

    @contextmanager
    def turn(self, vm: Vm, tell: Tell = silent) -> Iterator[None]:
        """Let only one job at a time touch a VM; the others wait for their turn."""
        with self._table:
            lock = self._jobs.setdefault(vm.id, threading.Lock())
        if lock.locked():
            tell(f"{vm.name}: waiting for another job on it")
        with lock:
            yield
