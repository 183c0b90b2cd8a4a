"""All probes of a declared network: what runs beside a patch, from the public side and from the tenants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.network import Network
from harness.network.flows import HTTP_PORT, LOOPBACK, Flow, flows
from harness.network.model import DeclaredMachine
from harness.traffic.probes import HttpProbe, Probe, StreamProbe, TcpProbe
from harness.traffic.reachability import PEER, udp_command
from harness.traffic.tenant_probes import TenantProbe
from harness.vm.system import SystemVm
from harness.vm.tenant.tenant import Tenant

# A request on a tenant's host starts some processes, so hosts ask this much less often than loopback does.
TENANT_SHARE = 5
# A router answers a renewal and notes it on its disk.
RENEWALS = 1.0
# A kernel says no more than once a second that nobody serves a port.
DATAGRAMS = 0.5


@dataclass(frozen=True)
class Pace:
    """The pace of a probe on loopback: requests a second, and the seconds that it waits for an answer."""

    rate: float
    timeout: float


def probes(vm: SystemVm, network: Network, pace: Pace) -> list[Probe]:
    """Return the probes of a network.

    Args:
        vm: the router, with its tenants.
        network: what it was told.
        pace: of the probes on loopback; those on tenants' hosts ask less often.
    """
    allowed = [flow for flow in flows(network) if flow.allowed]
    found: list[Probe] = []
    for flow in _first_of_each(flow for flow in allowed if flow.source == LOOPBACK):
        found += _from_loopback(vm, flow, pace)
    machines = [machine for machine in network.machines if machine.name in vm.tenants]
    if machines and network.serves_machines:
        found += _from_machine(vm, network, machines[0], _shared(pace))
    inside = [flow for flow in allowed if flow.source in vm.tenants and flow.port is not None]
    public = {flow.rule for flow in allowed if flow.source == LOOPBACK}
    # Of a rule that translates nothing, a request that tells whom it came from says most.
    inside.sort(key=lambda flow: not (flow.untranslated and flow.inner_port == HTTP_PORT))
    by_rule = {flow.rule: flow for flow in reversed(inside) if flow.rule not in public}
    return found + [_from_host(vm, flow, _shared(pace)) for flow in by_rule.values()]


def _shared(pace: Pace) -> Pace:
    return replace(pace, rate=pace.rate / TENANT_SHARE)


def _first_of_each(candidates: Iterator[Flow]) -> Iterator[Flow]:
    """Yield every load balancer and port forward, but one port only of an address with static NAT."""
    seen: set[object] = set()
    for flow in candidates:
        if flow.rule != "static NAT" or flow.target not in seen:
            seen.add(flow.target)
            yield flow


def _from_loopback(vm: SystemVm, flow: Flow, pace: Pace) -> Iterator[Probe]:
    port = vm.endpoints[(str(flow.target), flow.port or 0)]
    if flow.inner_port == HTTP_PORT:
        yield HttpProbe(flow.name, "127.0.0.1", port, expect=b"tenant", rate=pace.rate, timeout=pace.timeout)
        return
    yield TcpProbe(
        flow.name, "127.0.0.1", port, send=b"probe\n", expect=b"probe", rate=pace.rate, timeout=pace.timeout
    )
    yield StreamProbe(f"stream through {flow.name}", "127.0.0.1", port, rate=pace.rate, timeout=pace.timeout)


def _from_machine(vm: SystemVm, network: Network, machine: DeclaredMachine, pace: Pace) -> Iterator[Probe]:
    """Yield what a router does for one of its machines."""
    host = vm.tenants[machine.name]
    router = network.gateway_of(machine.address)
    named = f"nslookup {machine.name} {router} | grep -qF {machine.address}"
    # A client for each renewal: one that goes on renewing misses what comes while it opens its socket, and waits then.
    leased = f"udhcpc -i eth0 -f -q -n -t 4 -T 1 -r {machine.address} -s /bin/true"
    yield TenantProbe(f"DHCP renewal of {machine.name}", host, leased, min(pace.rate, RENEWALS), pace.timeout)
    yield TenantProbe(f"DNS asked by {machine.name}", host, named, pace.rate, pace.timeout)
    yield TenantProbe(
        f"ICMP from {machine.name} to {router}",
        host,
        f"ping -c 1 -W {pace.timeout:.0f} {router}",
        pace.rate,
        pace.timeout,
    )
    if machine.user_data:
        fetched = f"wget -q -O - http://{router}/latest/user-data | grep -q ."
        yield TenantProbe(f"user data of {machine.name}", host, fetched, pace.rate, pace.timeout)


def _from_host(vm: SystemVm, flow: Flow, pace: Pace) -> Probe:
    host: Tenant = vm.tenants[flow.source]
    if flow.port is not None and flow.protocol == "udp":
        answered = f"{udp_command(flow.target, flow.port, pace.timeout)} | grep -qF ' {flow.target} '"
        return TenantProbe(flow.name, host, answered, min(pace.rate, DATAGRAMS), pace.timeout)
    if flow.inner_port == HTTP_PORT and flow.untranslated:
        command = f"wget -q -O - http://{flow.host}:{flow.port}{PEER} | grep -qxF {flow.seen_as}"
    elif flow.inner_port == HTTP_PORT:
        command = f"wget -q -O - http://{flow.host}:{flow.port}/ | grep -q tenant"
    else:
        command = f"echo probe | nc {flow.target} {flow.port} | grep -q probe"
    return TenantProbe(flow.name, host, command, pace.rate, pace.timeout)
