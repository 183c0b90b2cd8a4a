"""Every later use of a VM, made as users, servers and clocks make it, and what was wrong with each.

The short form takes what fits into the end of every default scenario; the whole one adds what takes longer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bundle.errors import CheckFailed, InfrastructureError
from harness.kvmagent.patch import ask_versions
from harness.lab.aftermath import agents, changes, stranger, upkeep
from harness.lab.aftermath.changes import Change
from harness.lab.management_network import site_of
from harness.network import Network, Orders, deliver
from harness.network.flows import LOOPBACK, Flow
from harness.network.transport import DeliveryStep
from harness.traffic.reachability import attempt
from harness.vm.system import SystemVm

# A router was told its rules a moment ago: attempts until a connection is as declared, each of some two seconds.
_ATTEMPTS = 4
_FIRST_PASSWORD, _NEW_PASSWORD = "first-K3y", "second-K3y"


@dataclass(frozen=True)
class Use:
    """One later use: ``problem`` says what was wrong, ``skipped`` why it was not made; both empty when all is well."""

    name: str
    problem: str = ""
    skipped: str = ""


@dataclass(frozen=True)
class Later:
    """The later uses of one VM.

    Attributes:
        vm: the VM.
        network: what is declared for it; None where nothing is.
        release: of the server.
        signature: of the scripts that it must run.
    """

    vm: SystemVm
    network: Network | None
    release: str
    signature: str

    def short(self) -> Iterator[Use]:
        """Make every use that takes little time."""
        yield Use("versions", upkeep.versions(self.vm.guest, self.signature))
        if (site := site_of(self.vm)) is not None:
            yield Use("the agent is well", agents.health(site))
        network = self.network
        if network is None:
            yield Use("rules change", skipped="no rules are declared for this VM")
            return
        if network.serves_machines:
            yield from self._machine_comes(network)
            # Not beside anything else: a refresh of their data lets the VM apply all that it was ever told.
            yield self._health(network)
        network, made = self._first_changes(network)
        yield from self._prove(made)
        yield from self._prove(self._last_changes(network)[1])

    def whole(self) -> Iterator[Use]:
        """Make every use but those that follow a reboot."""
        yield from self.short()
        if (site := site_of(self.vm)) is not None:
            yield Use("the agent gets another certificate", agents.renewed(site, self.vm.guest))
        if self.network is not None:
            if self.network.serves_machines:
                yield self._machine_goes(self.network)
            yield from self._prove([changes.undone(self._changed(self.network), self.network)])
        yield _made("roles are told", upkeep.role(self.vm.guest, self.release), "it has no checkrouter.sh")
        yield _made("logs are rotated", upkeep.rotation(self.vm.guest), "nothing rotates its logs")

    def _orders(self, network: Network, version: tuple[str, str] | None = None) -> Orders:
        return Orders(network, self.release, int(time.time() * 1000), version)

    def _send(self, steps: tuple[DeliveryStep, ...]) -> str:
        """Send rules; returns what went wrong."""
        try:
            deliver(self.vm.guest, steps)
        except CheckFailed as error:
            return str(error)
        return ""

    def _can_try(self, flow: Flow) -> bool:
        if flow.source == LOOPBACK:
            return (str(flow.target), flow.port or 0) in self.vm.endpoints
        return flow.source in self.vm.tenants

    def _machine_comes(self, network: Network) -> Iterator[Use]:
        """Let a machine come, and another one get a new password."""
        first, machine = network.machines[0], changes.new_machine(network)
        host = self.vm.tenants.get(first.name)
        if host is None:
            yield Use("a machine comes", skipped="nobody is behind this VM who could play it")
            return
        orders, server = self._orders(network), str(network.gateway_of(machine.address))
        sent = self._send(
            orders.deployed(machine, _FIRST_PASSWORD) + orders.password_reset(first, _NEW_PASSWORD)
        )
        if sent:
            yield Use("a machine comes", sent)
            return
        for name, problem in stranger.visit(host, machine, server, _FIRST_PASSWORD).items():
            yield Use(f"a {name}", problem)
        yield Use("a password is reset", stranger.new_password(host, server, _NEW_PASSWORD))

    def _machine_goes(self, network: Network) -> Use:
        machine = changes.new_machine(network)
        host = self.vm.tenants.get(network.machines[0].name)
        if host is None:
            return Use("a machine goes", skipped="nobody is behind this VM who could play it")
        sent = self._send(self._orders(network).expunged(machine))
        server = str(network.gateway_of(machine.address))
        return Use("a machine goes", sent or stranger.still_served(host, machine, server))

    def _health(self, network: Network) -> Use:
        """Refresh the data of the health checks, the machine that has come too, and run them."""
        try:
            told = ask_versions(self.vm.guest)
        except InfrastructureError as error:
            return Use("health checks", str(error))
        if network.machines[0].name in self.vm.tenants:
            network = replace(network, machines=(*network.machines, changes.new_machine(network)))
        orders = self._orders(network, (told.template, told.scripts))
        return Use("health checks", self._send(orders.health_refreshed()) or upkeep.health(self.vm.guest))

    def _first_changes(self, network: Network) -> tuple[Network, list[Change]]:
        """Return the network after a forward was added and a balancer changed, and these changes."""
        made = [
            changes.forward_added(network, self._can_try),
            changes.balancer_changed(network, self._can_try),
        ]
        return changes.together(network, [change for change in made if change])

    def _last_changes(self, network: Network) -> tuple[Network, list[Change]]:
        """Return the same of a forward that goes elsewhere, one that goes, and a firewall rule that goes."""
        made = [
            changes.forward_changed(network, self._can_try),
            changes.forward_revoked(network, self._can_try),
            changes.rule_revoked(network, self._can_try),
        ]
        return changes.together(network, [change for change in made if change])

    def _changed(self, network: Network) -> Network:
        """Return the network after all changes of the short form."""
        return self._last_changes(self._first_changes(network)[0])[0]

    def _prove(self, made: list[Change]) -> Iterator[Use]:
        """Send changes, and try what tells before and after apart: all at once, for each try takes its time."""
        if not made:
            return
        sent = {
            change.name: self._send(change.steps(self.release, int(time.time() * 1000))) for change in made
        }
        told = [flow for flow in changes.told_apart(made[0].before, made[-1].after) if self._can_try(flow)]
        problems = self._attempt(told)
        for change in made:
            mine = {changes.key(flow) for flow in change.flows(self._can_try)}
            wrong = [row for flow, row in problems.items() if row and changes.key(flow) in mine]
            yield Use(change.name, sent[change.name] or next(iter(wrong), ""))

    def _attempt(self, wanted: list[Flow]) -> dict[Flow, str]:
        problems = dict.fromkeys(wanted, "no attempt")
        for _ in range(_ATTEMPTS):
            again = [flow for flow, problem in problems.items() if problem]
            if not again:
                break
            for flow, problem in zip(again, attempt(self.vm, again), strict=True):
                problems[flow] = f"{flow.name}: {problem}" if problem else ""
        return problems


def _made(name: str, problem: str | None, absent: str) -> Use:
    return Use(name, skipped=absent) if problem is None else Use(name, problem)
