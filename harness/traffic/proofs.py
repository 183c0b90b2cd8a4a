"""Proofs that the rules of a network work: requests that must arrive, and others that must not, from every side."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from bundle.errors import InfrastructureError
from harness.host import wait
from harness.network import Network, far_ends
from harness.network.flows import Flow, flows
from harness.network.model import DeclaredMachine, DeclaredNic
from harness.traffic.reachability import attempt
from harness.vm.system import SystemVm

# A router has just been told its rules: its proxies may need a moment under emulation.
DEADLINE = 30.0
# A tunnel or a session has to be made by daemons at both ends first: it may take so many times as long.
_BY_BOTH_ENDS = 3.0
# Seconds between two attempts: a closed port refuses at once, and asking on and on would leave the guest no CPU.
# Programs of the template are slow to start.
_TICK, _SLOW_TICK = 0.05, 0.5


@dataclass(frozen=True)
class Proof:
    """One rule and what became of a request to it; ``reason`` is empty when it was answered as declared."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Limit:
    """A limit of each wait: seconds of a host that is not busy, what measures how busy it is, and the tick."""

    seconds: float
    measure: Callable[[], Callable[[], float]]
    tick: float = _TICK

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds.

        Raises:
            DeadlineExceeded: it does not in time.
        """
        wait.until(holds, what, self.seconds, tick=self.tick, stretch=self.measure())


def prove(vm: SystemVm, network: Network, *, deadline: float = DEADLINE) -> list[Proof]:
    """Try everything that a network declares; what fails may be tried again until ``deadline`` seconds have passed.

    They are seconds of a host on which the VM never waits for a core: on a busy one the deadline is later. What far
    ends have to make first is waited for, so that the flows through it have their time for themselves.

    Raises:
        InfrastructureError: something is not answered, and a machine has ended: that is why.
    """
    limit = _Limit(deadline, vm.machine.stretch)
    found = [_attempt(name, request, limit) for name, request in _requests(vm, network)]
    later = _Limit(deadline * _BY_BOTH_ENDS, vm.machine.stretch, _SLOW_TICK)
    found += [_attempt(name, request, later) for name, request in _of_far_ends(vm, network)]
    found += _prove_flows(vm, [flow for flow in flows(network) if _can_try(vm, flow)], limit)
    if any(proof.reason for proof in found):
        vm.require_run()
    return found


def _can_try(vm: SystemVm, flow: Flow) -> bool:
    """Say whether the side that a flow comes from is there."""
    return not flow.source or flow.source in vm.tenants


def _prove_flows(vm: SystemVm, wanted: Sequence[Flow], limit: _Limit) -> list[Proof]:
    problems = dict.fromkeys(wanted, "no attempt")

    def kept() -> bool:
        failed = [flow for flow, problem in problems.items() if problem]
        problems.update(zip(failed, attempt(vm, failed), strict=True))
        return not any(problems.values())

    with contextlib.suppress(wait.DeadlineExceeded):  # the problems say more
        limit.until(kept, "the flows")
    return [Proof(flow.name, problem) for flow, problem in problems.items()]


def _requests(vm: SystemVm, network: Network) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield name and request of what a router does for its machines; a request returns what is wrong, or nothing."""
    for machine in network.machines:
        if machine.name in vm.tenants and network.serves_machines:
            yield f"DHCP gives {machine.address} to {machine.name}", _dhcp(vm, machine)
            server = str(network.gateway_of(machine.address))
            yield f"DNS knows {machine.name}", _dns(vm, machine, server)
            if machine.user_data:
                yield f"user data of {machine.name}", _user_data(vm, machine, server)
            if machine.address6 is not None:
                yield f"advertisements give {machine.address6} to {machine.name}", _advertised(vm, machine)
            if network.subnet_of(machine.address) in network.aliases:
                yield from _on_an_alias(vm, machine, server)


def _on_an_alias(
    vm: SystemVm, machine: DeclaredMachine, server: str
) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield what a router has to answer at its address in a further subnet, too."""
    metadata = f"http://{server}/latest/meta-data/local-ipv4"
    password = f"wget -q -O - --header 'DomU_Request: send_my_password' http://{server}:8080/"
    host = vm.tenants[machine.name]
    yield (
        f"metadata of {machine.name}",
        lambda: _differs("its address", host.http(metadata).strip(), str(machine.address)),
    )
    # It keeps none for this machine, and only a password server says that in these words.
    yield (
        f"password server for {machine.name}",
        lambda: _differs("its answer", host.run(password).stdout.strip(), "saved_password"),
    )


def _of_far_ends(vm: SystemVm, network: Network) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield what far ends must have: a tunnel, names for who logs in, networks for neighbours."""
    for outsider, _ in far_ends.sites(network):
        yield f"the tunnel of {outsider.name} stands", partial(_stands, vm, outsider.name)
    server = far_ends.vpn_server(network)
    for outsider, _ in far_ends.callers(network):
        for machine in network.machines:
            name = f"DNS knows {machine.name} in the tunnel of {outsider.name}"
            yield name, partial(_resolved, vm, outsider.name, machine, str(server))
    for outsider, _ in far_ends.neighbours(network):
        for nic in network.inside:
            name = f"BGP tells {outsider.name} of {nic.address.network}"
            yield name, partial(_told, vm, outsider.name, nic)


def _stands(vm: SystemVm, host: str) -> str:
    status = vm.tenants[host].run("in-template /usr/sbin/ipsec status site", check=False).stdout
    return "" if "INSTALLED" in status else f"strongSwan says {status!r}"


def _resolved(vm: SystemVm, host: str, machine: DeclaredMachine, server: str) -> str:
    answer = vm.tenants[host].resolve(machine.name, server)
    return "" if str(machine.address) in answer else f"the answer names no {machine.address}: {answer!r}"


def _told(vm: SystemVm, host: str, nic: DeclaredNic) -> str:
    routes = vm.tenants[host].run("ip route show").stdout
    there = any(line.startswith(f"{nic.address.network} via ") for line in routes.splitlines())
    return "" if there else f"its routes are {routes!r}"


def _advertised(vm: SystemVm, machine: DeclaredMachine) -> Callable[[], str]:
    def request() -> str:
        seen = vm.tenants[machine.name].run("ip -6 address show dev eth0 scope global").stdout
        words = [word.partition("/")[0] for word in seen.split()]
        return "" if str(machine.address6) in words else f"it has {seen!r}"

    return request


def _attempt(name: str, request: Callable[[], str], limit: _Limit) -> Proof:
    last = "no attempt"

    def answered() -> bool:
        nonlocal last
        try:
            last = request()
        except (OSError, InfrastructureError) as error:
            last = f"{type(error).__name__}: {error}"
        return not last

    try:
        limit.until(answered, name)
    except wait.DeadlineExceeded:
        return Proof(name, last)
    return Proof(name, "")


def _differs(what: str, seen: str, expected: str) -> str:
    return "" if seen == expected else f"{what} is {seen!r} instead of {expected!r}"


def _dhcp(vm: SystemVm, machine: DeclaredMachine) -> Callable[[], str]:
    return lambda: _differs("the lease", vm.tenants[machine.name].dhcp(), str(machine.address))


def _dns(vm: SystemVm, machine: DeclaredMachine, server: str) -> Callable[[], str]:
    return partial(_resolved, vm, machine.name, machine, server)


def _user_data(vm: SystemVm, machine: DeclaredMachine, server: str) -> Callable[[], str]:
    def request() -> str:
        body = vm.tenants[machine.name].http(f"http://{server}/latest/user-data")
        return _differs("user data", body.rstrip("\n"), machine.user_data.rstrip("\n"))

    return request
