"""Every later use of a VM, made as users, servers and clocks make it, and what was wrong with each.

The short form takes what fits into the end of every default scenario; the whole one adds what takes longer.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from bundle.errors import CheckFailed
from harness.host import wait
from harness.kvmagent.patch import Versions
from harness.lab.aftermath import agents, changes, stranger, upkeep
from harness.lab.aftermath.changes import Change
from harness.lab.management_network import site_of
from harness.network import Network, Orders, deliver
from harness.network.flows import LOOPBACK, Flow
from harness.network.transport import DeliveryStep, Together, bags_of
from harness.traffic.reachability import attempt
from harness.vm.system import SystemVm
from harness.vm.tenant.tenant import Tenant

# Seconds until a connection is as declared: a router was told its rules a moment ago, and an old worker of haproxy ends
# by and by. And those between two attempts.
_PATIENCE, _PAUSE = 8.0, 0.5
_FIRST_PASSWORD, _NEW_PASSWORD = "first-K3y", "second-K3y"
_COMES, _RESET = "a machine comes", "a password is reset"


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
        """Make every use that takes little time; what the server sends by itself travels together here."""
        return self._make(by_itself=False)

    def whole(self) -> Iterator[Use]:
        """Make every use but those that follow a reboot, each message sent by itself, as the server does."""
        yield from self._make(by_itself=True)
        if (site := site_of(self.vm)) is not None:
            yield Use("the agent gets another certificate", agents.renewed(site, self.vm.guest))
        if self.network is not None:
            if self.network.serves_machines:
                yield self._machine_goes(self.network)
            undone = changes.undone(self._changed(self.network), self.network)
            sent = self._send({undone.name: self._steps(undone)}, by_itself=True)
            yield from self._prove([undone], sent)
        yield _made("roles are told", upkeep.role(self.vm.guest, self.release), "it has no checkrouter.sh")
        yield _made("logs are rotated", upkeep.rotation(self.vm.guest), "nothing rotates its logs")

    def _make(self, *, by_itself: bool) -> Iterator[Use]:
        told, problem = upkeep.versions(self.vm.guest, self.signature)
        yield Use("versions", problem)
        if (site := site_of(self.vm)) is not None:
            yield Use("the agent is well", agents.health(site))
        if self.network is None:
            yield Use("rules change", skipped="no rules are declared for this VM")
            return
        network, first = self._first_changes(self.network)
        machines = self._machine_steps(self.network)
        wanted = {**machines, **{change.name: self._steps(change) for change in first}}
        sent = self._send(wanted, by_itself=by_itself)
        yield from self._prove(first, sent)
        if self.network.serves_machines:
            yield from self._machine_comes(self.network, sent)
        network, last = self._last_changes(network)
        wanted = {change.name: self._steps(change) for change in last}
        yield from self._prove(last, self._send(wanted, by_itself=by_itself))
        if network.serves_machines:
            # Last: a refresh of their data lets the VM apply all that it was ever told.
            yield Use("health checks", self._health(network, told) if told else problem)

    def _orders(self, network: Network, version: tuple[str, str] | None = None) -> Orders:
        return Orders(network, self.release, int(time.time() * 1000), version)

    def _steps(self, change: Change) -> tuple[DeliveryStep, ...]:
        return change.steps(self.release, int(time.time() * 1000))

    def _send(self, wanted: Mapping[str, tuple[DeliveryStep, ...]], *, by_itself: bool) -> dict[str, str]:
        """Send rules for some uses; returns what went wrong with each, by its name."""
        steps = [step for steps in wanted.values() for step in steps]
        if not by_itself and steps and not self._deliver((Together(bags_of(steps)),)):
            return dict.fromkeys(wanted, "")
        # What cannot be sent together is sent one by one: the use that is to blame is told then.
        return {name: self._deliver(steps) for name, steps in wanted.items()}

    def _deliver(self, steps: tuple[DeliveryStep, ...]) -> str:
        try:
            deliver(self.vm.guest, steps)
        except CheckFailed as error:
            return str(error)
        return ""

    def _can_try(self, flow: Flow) -> bool:
        if flow.source == LOOPBACK:
            return (str(flow.target), flow.port or 0) in self.vm.endpoints
        return flow.source in self.vm.tenants

    def _machine_steps(self, network: Network) -> dict[str, tuple[DeliveryStep, ...]]:
        """Return what is sent when a machine comes, and another one gets a new password, by use."""
        if not network.serves_machines or self._host(network) is None:
            return {}
        orders = self._orders(network)
        return {
            _COMES: orders.deployed(changes.new_machine(network), _FIRST_PASSWORD),
            _RESET: orders.password_reset(network.machines[0], _NEW_PASSWORD),
        }

    def _host(self, network: Network) -> Tenant | None:
        """Return who plays the machine that comes."""
        return self.vm.tenants.get(network.machines[0].name)

    def _machine_comes(self, network: Network, sent: Mapping[str, str]) -> Iterator[Use]:
        """Let the machine come that the VM was told of, and another one get its new password."""
        host, machine = self._host(network), changes.new_machine(network)
        if host is None:
            yield Use(_COMES, skipped="nobody is behind this VM who could play it")
            return
        server = str(network.gateway_of(machine.address))
        if sent[_COMES]:
            yield Use(_COMES, sent[_COMES])
        else:
            for name, problem in stranger.visit(host, machine, server, _FIRST_PASSWORD).items():
                yield Use(f"a {name}", problem)
        yield Use(_RESET, sent[_RESET] or stranger.new_password(host, server, _NEW_PASSWORD))

    def _machine_goes(self, network: Network) -> Use:
        machine, host = changes.new_machine(network), self._host(network)
        if host is None:
            return Use("a machine goes", skipped="nobody is behind this VM who could play it")
        sent = self._deliver(self._orders(network).expunged(machine))
        server = str(network.gateway_of(machine.address))
        return Use("a machine goes", sent or stranger.still_served(host, machine, server))

    def _health(self, network: Network, told: Versions) -> str:
        """Refresh the data of the health checks, the machine that has come too, and run them."""
        if self._host(network) is not None:
            network = replace(network, machines=(*network.machines, changes.new_machine(network)))
        orders = self._orders(network, (told.template, told.scripts))
        return self._deliver(orders.health_refreshed()) or upkeep.health(self.vm.guest)

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

    def _prove(self, made: list[Change], sent: Mapping[str, str]) -> Iterator[Use]:
        """Try what tells before and after of changes apart: all at once, for each try takes its time."""
        if not made:
            return
        told = [flow for flow in changes.told_apart(made[0].before, made[-1].after) if self._can_try(flow)]
        problems = self._attempt(told)
        for change in made:
            mine = {changes.key(flow) for flow in change.flows(self._can_try)}
            wrong = [row for flow, row in problems.items() if row and changes.key(flow) in mine]
            yield Use(change.name, sent[change.name] or next(iter(wrong), ""))

    def _attempt(self, wanted: list[Flow]) -> dict[Flow, str]:
        problems = dict.fromkeys(wanted, "no attempt")

        def kept() -> bool:
            again = [flow for flow, problem in problems.items() if problem]
            for flow, problem in zip(again, attempt(self.vm, again), strict=True):
                problems[flow] = f"{flow.name}: {problem}" if problem else ""
            return not any(problems.values())

        with contextlib.suppress(wait.DeadlineExceeded):  # the problems say more
            wait.until(kept, "the changed connections", _PATIENCE, tick=_PAUSE)
        return problems


def _made(name: str, problem: str | None, absent: str) -> Use:
    return Use(name, skipped=absent) if problem is None else Use(name, problem)
