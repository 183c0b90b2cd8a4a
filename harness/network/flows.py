"""What a declared network lets through: every connection worth trying, from which side, and what must become of it.

Pure reasoning about the declaration, so that a proof compares the router with what was asked for and not with itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

from harness.network.model import (
    DeclaredMachine,
    DeclaredNic,
    Egress,
    Ingress,
    Network,
    Outsider,
    PortForward,
    PortRange,
    RuleProtocol,
)

HTTP_PORT = 80
# What every host serves besides HTTP: TCP echo.
ECHO_PORTS = (7, 22)
# The side that is no host of the network: loopback, by way of the user-mode network on the public NIC.
LOOPBACK = ""
Host = DeclaredMachine | Outsider


@dataclass(frozen=True)
class Flow:
    """One connection to try.

    Attributes:
        rule: what is tried, for people.
        source: name of the host that tries, or ``LOOPBACK``.
        target: address that it connects to.
        port: TCP or UDP port; None for an ICMP echo.
        inner_port: the port that the far host serves behind the router's rules.
        allowed: whether it must be answered.
        reaches: names of the hosts that may answer; empty where the answer does not say who it is from.
        seen_as: the address that the far host must see; None where the router speaks for itself.
        protocol: of the port. No host serves UDP: the far one answers that, and the router has to carry it back.
    """

    rule: str
    source: str
    target: IPv4Address
    port: int | None
    inner_port: int | None
    allowed: bool
    reaches: tuple[str, ...] = ()
    seen_as: IPv4Address | None = None
    protocol: Literal["tcp", "udp"] = "tcp"

    @property
    def name(self) -> str:
        """What a report calls it."""
        where = f"{self.rule} {self.target}" + ("" if self.port is None else f":{self.port}")
        side = f" from {self.source}" if self.source else ""
        return where + side + ("" if self.allowed else " is refused")


def served_ports(network: Network, address: IPv4Address) -> tuple[int, ...]:
    """Return the TCP ports that a host serves: those that the rules speak of, and some that no rule need speak of."""
    ports = {HTTP_PORT, *ECHO_PORTS}
    ports |= {f.private_ports.first for f in network.forwards if f.private == address and f.protocol == "tcp"}
    ports |= {m.port for balancer in network.load_balancers for m in balancer.members if m.address == address}
    for acl in network.acls:
        nic = next(nic for nic in network.nics if nic.device == acl.device)
        if acl.ports and acl.protocol == "tcp" and address in nic.address.network:
            ports.add(acl.ports.first)
    return tuple(sorted(ports))


def flows(network: Network) -> tuple[Flow, ...]:
    """Return every flow that is worth trying in a network."""
    return (*_inward(network), *_outward(network), *_between(network), *_balanced(network))


def _sides(network: Network) -> Iterator[tuple[str, IPv4Address]]:
    """Yield name and address of whoever can try the public addresses."""
    if network.public is None:
        return
    yield LOOPBACK, network.public.address.network[1]
    for outsider in network.outsiders:
        if outsider.device == network.public.device:
            yield outsider.name, outsider.address.ip


def _inward(network: Network) -> Iterator[Flow]:
    """Yield what the public side tries."""
    for side, address in _sides(network):
        for balancer in network.load_balancers:
            members = {member.address for member in balancer.members}
            names = tuple(machine.name for machine in network.machines if machine.address in members)
            allowed = network.is_vpc or _let_in(network.ingress, balancer.public, balancer.port, address)
            yield Flow("load balancer", side, balancer.public, balancer.port, HTTP_PORT, allowed, names)
        for forward in network.forwards:
            if forward.protocol == "tcp":
                port, inner = forward.public_ports.first, forward.private_ports.first
                yield _translated(
                    network, "port forward", side, address, forward.public, port, forward.private, inner
                )
            elif side != LOOPBACK:  # QEMU's user-mode network would not tell loopback who answers
                yield _forwarded_datagram(network, forward, side, address)
        for nat in network.static_nats:
            for port in served_ports(network, nat.private):
                yield _translated(network, "static NAT", side, address, nat.public, port, nat.private, port)


def _balanced(network: Network) -> Iterator[Flow]:
    """Yield what machines try that an internal load balancer stands between."""
    if network.kind.family != "balancer":
        return
    for balancer in network.load_balancers:
        members = {member.address for member in balancer.members}
        names = tuple(machine.name for machine in network.machines if machine.address in members)
        for machine in network.machines:
            yield Flow("load balancer", machine.name, balancer.public, balancer.port, HTTP_PORT, True, names)


def _translated(
    network: Network, rule: str, side: str, source: IPv4Address,
    public: IPv4Address, port: int, private: IPv4Address, inner: int,
) -> Flow:  # fmt: skip
    if network.is_vpc:
        allowed = _listed(network, network.inside_of(private), "ingress", source, inner)
    else:
        allowed = _let_in(network.ingress, public, port, source)
    names = tuple(machine.name for machine in network.machines if machine.address == private)
    return Flow(rule, side, public, port, inner, allowed, names, source)


def _forwarded_datagram(network: Network, forward: PortForward, side: str, source: IPv4Address) -> Flow:
    port, inner = forward.public_ports.first, forward.private_ports.first
    if network.is_vpc:
        allowed = _listed(network, network.inside_of(forward.private), "ingress", source, inner, "udp")
    else:
        allowed = _let_in(network.ingress, forward.public, port, source, "udp")
    names = tuple(machine.name for machine in network.machines if machine.address == forward.private)
    return Flow("UDP port forward", side, forward.public, port, inner, allowed, names, protocol="udp")


def _outward(network: Network) -> Iterator[Flow]:
    """Yield what machines try towards the hosts outside, and what hosts behind a private gateway try inwards."""
    for machine in network.machines:
        for outsider in network.outsiders:
            nic = network.nic(outsider.device)
            seen = _source_of(network, machine) if nic.role == "public" else machine.address
            behind = [route.target for route in network.routes if route.gateway == outsider.address.ip]
            for target in [outsider.address.ip, *behind]:
                for port in (*served_ports(network, outsider.address.ip), None):
                    allowed = _let_out(network, machine, nic, target, port)
                    rule = "egress" if nic.role == "public" else "private gateway"
                    yield Flow(rule, machine.name, target, port, port, allowed, (outsider.name,), seen)
            if nic.role == "private":
                for port in served_ports(network, machine.address):
                    allowed = _listed(network, nic, "ingress", outsider.address.ip, port) and _listed(
                        network, network.inside_of(machine.address), "ingress", outsider.address.ip, port
                    )
                    yield Flow(
                        "private gateway", outsider.name, machine.address, port, port, allowed,
                        (machine.name,), outsider.address.ip,
                    )  # fmt: skip


def _between(network: Network) -> Iterator[Flow]:
    """Yield what machines of one tier try towards those of another one."""
    for machine in network.machines:
        own = network.inside_of(machine.address)
        for other in network.machines:
            tier = network.inside_of(other.address)
            if tier is own:
                continue
            for port in (*served_ports(network, other.address), None):
                allowed = _listed(network, own, "egress", other.address, port) and _listed(
                    network, tier, "ingress", machine.address, port
                )
                yield Flow(
                    f"access list of {tier.device}", machine.name, other.address, port, port, allowed,
                    (other.name,), machine.address,
                )  # fmt: skip


def _source_of(network: Network, machine: DeclaredMachine) -> IPv4Address | None:
    """Return the address that a machine has on the public network."""
    for nat in network.static_nats:
        if nat.private == machine.address:
            return nat.public
    return next((row.address for row in network.public_addresses if row.source_nat), None)


def _let_in(
    rules: tuple[Ingress, ...],
    public: IPv4Address,
    port: int,
    source: IPv4Address,
    wanted: RuleProtocol = "tcp",
) -> bool:
    """Say whether the firewall of a public address lets a connection in."""
    return any(
        rule.public == public
        and _matches(rule.protocol, rule.ports, port, wanted)
        and _within(source, rule.cidrs)
        for rule in rules
    )


def _let_out(
    network: Network, machine: DeclaredMachine, nic: DeclaredNic, target: IPv4Address, port: int | None
) -> bool:
    """Say whether a machine may reach an outside address."""
    if network.is_vpc:
        tier = network.inside_of(machine.address)
        out = _listed(network, tier, "egress", target, port)
        return out and (nic.role == "public" or _listed(network, nic, "egress", target, port))
    named = any(_egress(rule, machine.address, target, port) for rule in network.egress)
    return named != (network.egress_default == "allow")


def _egress(rule: Egress, source: IPv4Address, target: IPv4Address, port: int | None) -> bool:
    return (
        _matches(rule.protocol, rule.ports, port)
        and _within(source, rule.sources)
        and _within(target, rule.destinations)
    )


def _listed(
    network: Network, nic: DeclaredNic, direction: Literal["ingress", "egress"], other: IPv4Address, port: int | None,
    wanted: RuleProtocol = "tcp",
) -> bool:  # fmt: skip
    """Say what the access list of a NIC says: the first line that matches; what none names is dropped."""
    for acl in network.acls:
        here = acl.device == nic.device and acl.direction == direction
        if here and _matches(acl.protocol, acl.ports, port, wanted) and other in acl.cidr:
            return acl.allowed
    return False


def _matches(
    protocol: RuleProtocol, ports: PortRange | None, port: int | None, wanted: RuleProtocol = "tcp"
) -> bool:
    """Say whether a rule is about a port of the wanted protocol, or about ICMP where there is no port."""
    if protocol == "all":
        return True
    if port is None or protocol != wanted:
        return port is None and protocol == "icmp"
    return ports is None or ports.first <= port <= ports.last


def _within(address: IPv4Address, networks: tuple[IPv4Network, ...]) -> bool:
    return any(address in network for network in networks)
