"""Flows of a declared network: every connection worth trying, from which side, and what must become of it.

Pure reasoning about the declaration, so that a proof compares the router with what was asked for and not with itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Literal

from harness.network import far_ends
from harness.network.model import (
    DeclaredMachine,
    DeclaredNic,
    Egress,
    Firewall6,
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
# Rules by which both ends see each other as they are.
_UNTRANSLATED = frozenset(
    {"routed", "IPv6 in", "IPv6 out", "site to site", "from the other site", "learned route"}
)
FlowHost = DeclaredMachine | Outsider


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
    target: IPv4Address | IPv6Address
    port: int | None
    inner_port: int | None
    allowed: bool
    reaches: tuple[str, ...] = ()
    seen_as: IPv4Address | IPv6Address | None = None
    protocol: Literal["tcp", "udp"] = "tcp"

    @property
    def untranslated(self) -> bool:
        """True if no rule of its kind changes an address, so that the far host sees the near one's own."""
        return self.seen_as is not None and self.rule in _UNTRANSLATED

    @property
    def host(self) -> str:
        """The target as it stands in front of a port."""
        return f"[{self.target}]" if self.target.version == 6 else str(self.target)

    @property
    def name(self) -> str:
        """The flow's name in reports."""
        where = f"{self.rule} {self.target}" if self.port is None else f"{self.rule} {self.host}:{self.port}"
        side = f" from {self.source}" if self.source else ""
        return where + side + ("" if self.allowed else " is refused")


def served_ports(network: Network, address: IPv4Address) -> tuple[int, ...]:
    """Return the TCP ports that a host serves: those that the rules speak of, and some that no rule need speak of."""
    ports = {HTTP_PORT, *ECHO_PORTS}
    ports |= {f.private_ports.first for f in network.forwards if f.private == address and f.protocol == "tcp"}
    ports |= {r.ports.first for r in network.firewall6 if r.ports and r.protocol == "tcp"}
    ports |= {m.port for balancer in network.load_balancers for m in balancer.members if m.address == address}
    for acl in network.acls:
        nic = next(nic for nic in network.nics if nic.device == acl.device)
        if acl.ports and acl.protocol == "tcp" and address in nic.address.network:
            ports.add(acl.ports.first)
    return tuple(sorted(ports))


def flows(network: Network) -> tuple[Flow, ...]:
    """Return every flow that is worth trying in a network."""
    return (
        *_inward(network), *_routed(network), *_outward(network), *_between(network), *_balanced(network),
        *_by_ipv6(network), *_far_ends(network),
    )  # fmt: skip


def _sides(network: Network, nic: DeclaredNic) -> Iterator[tuple[str, IPv4Address]]:
    """Yield name and address of whoever can try the addresses of a public NIC; loopback is on the first one."""
    if nic == network.public:
        yield LOOPBACK, nic.address.network[1]
    for outsider in network.outsiders:
        if outsider.device == nic.device:
            yield outsider.name, outsider.address.ip


def _inward(network: Network) -> Iterator[Flow]:
    """Yield what the public side tries."""
    for nic in network.publics:
        for side, address in _sides(network, nic):
            yield from _inward_from(network, nic, side, address)


def _inward_from(network: Network, nic: DeclaredNic, side: str, address: IPv4Address) -> Iterator[Flow]:
    for balancer in network.load_balancers:
        if network.public_of(balancer.public) == nic:
            members = {member.address for member in balancer.members}
            names = tuple(machine.name for machine in network.machines if machine.address in members)
            allowed = network.is_vpc or _let_in(network.ingress, balancer.public, balancer.port, address)
            allowed = allowed and (not balancer.sources or _within(address, balancer.sources))
            yield Flow("load balancer", side, balancer.public, balancer.port, HTTP_PORT, allowed, names)
    for forward in network.forwards:
        if network.public_of(forward.public) == nic:
            flow = _forwarded(network, forward, side, address)
            if (
                forward.protocol == "tcp" or side != LOOPBACK
            ):  # user-mode network would not tell who answers UDP
                yield flow
    for nat in network.static_nats:
        if network.public_of(nat.public) == nic:
            for port in served_ports(network, nat.private):
                yield _translated(network, "static NAT", side, address, nat.public, port, nat.private, port)


def _routed(network: Network) -> Iterator[Flow]:
    """Yield what outsiders try towards machines that keep their own addresses outside."""
    if not network.routed:
        return
    for outsider in network.outsiders:
        if network.nic(outsider.device).role != "public":
            continue
        for machine in network.machines:
            for port in (*served_ports(network, machine.address), None):
                if network.is_vpc:
                    tier = network.inside_of(machine.address)
                    allowed = _listed(network, tier, "ingress", outsider.address.ip, port)
                else:
                    allowed = _let_in(network.ingress, None, port, outsider.address.ip)
                yield Flow(
                    "routed", outsider.name, machine.address, port, port, allowed, (machine.name,),
                    outsider.address.ip,
                )  # fmt: skip


def _balanced(network: Network) -> Iterator[Flow]:
    """Yield what machines try that an internal load balancer stands between."""
    if not network.is_balancer:
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


def _forwarded(network: Network, forward: PortForward, side: str, source: IPv4Address) -> Flow:
    port, inner = forward.public_ports.first, forward.private_ports.first
    named = not network.is_vpc or not forward.sources or _within(source, forward.sources)
    if forward.protocol == "tcp":
        flow = _translated(
            network, "port forward", side, source, forward.public, port, forward.private, inner
        )
        return replace(flow, allowed=flow.allowed and named)
    if network.is_vpc:
        allowed = named and _listed(
            network, network.inside_of(forward.private), "ingress", source, inner, "udp"
        )
    else:
        allowed = _let_in(network.ingress, forward.public, port, source, "udp")
    names = tuple(machine.name for machine in network.machines if machine.address == forward.private)
    return Flow("UDP port forward", side, forward.public, port, inner, allowed, names, protocol="udp")


def _outward(network: Network) -> Iterator[Flow]:
    """Yield what machines try towards the hosts outside, and what hosts behind a private gateway try inwards."""
    for machine in network.machines:
        for outsider in network.outsiders:
            nic = network.nic(outsider.device)
            if nic.role == "public" and _leaves_elsewhere(network, machine, nic):
                continue
            seen = _source_of(network, machine, nic) if nic.role == "public" else machine.address
            behind = [route.target for route in network.routes if route.gateway == outsider.address.ip]
            for target in [outsider.address.ip, *behind]:
                for port in (*served_ports(network, outsider.address.ip), None):
                    allowed = _let_out(network, machine, nic, target, port)
                    rule = "egress" if nic.role == "public" else "private gateway"
                    yield Flow(rule, machine.name, target, port, port, allowed, (outsider.name,), seen)
            if nic.role == "private":
                for port in served_ports(network, machine.address):
                    allowed = _listed(network, nic, "egress", machine.address, port) and _listed(
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


def _by_ipv6(network: Network) -> Iterator[Flow]:
    """Yield what outsiders and machines try by IPv6, where everybody has the same address on both sides."""
    for outsider in network.outsiders:
        if outsider.address6 is None or network.nic(outsider.device).role != "public":
            continue
        far = outsider.address6.ip
        for machine in network.machines:
            own = machine.address6
            if own is None:
                continue
            for port in (*served_ports(network, machine.address), None):
                allowed = _passes6(network, machine, "ingress", (far, own), port)
                yield Flow("IPv6 in", outsider.name, own, port, port, allowed, (machine.name,), far)
            for port in (*served_ports(network, outsider.address.ip), None):
                allowed = _passes6(network, machine, "egress", (own, far), port)
                yield Flow("IPv6 out", machine.name, far, port, port, allowed, (outsider.name,), own)


def _passes6(
    network: Network, machine: DeclaredMachine, direction: Literal["ingress", "egress"],
    way: tuple[IPv6Address, IPv6Address], port: int | None,
) -> bool:  # fmt: skip
    """Say whether a connection of a machine passes: by its tier's list, or by the IPv6 firewall of its network."""
    if network.is_vpc:
        other = way[0] if direction == "ingress" else way[1]
        return _listed(network, network.inside_of(machine.address), direction, other, port)
    named = any(rule.direction == direction and _named6(rule, way, port) for rule in network.firewall6)
    return named != (direction == "egress" and network.egress_default == "allow")


def _named6(rule: Firewall6, way: tuple[IPv6Address, IPv6Address], port: int | None) -> bool:
    source, target = way
    return (
        _matches(rule.protocol, rule.ports, port)
        and (not rule.sources or any(source in row for row in rule.sources))
        and (not rule.destinations or any(target in row for row in rule.destinations))
    )


def _far_ends(network: Network) -> Iterator[Flow]:
    """Yield what goes through tunnels, or by learned routes, and is let through by the tiers' lists.

    What else goes through a tunnel is left open.
    """
    for outsider, site in far_ends.sites(network):
        for machine in network.machines:
            tier = network.inside_of(machine.address)
            for behind in site.networks:
                for port in (*served_ports(network, outsider.address.ip), None):
                    if _listed(network, tier, "egress", behind[1], port):
                        yield Flow(
                            "site to site", machine.name, behind[1], port, port, True, (outsider.name,),
                            machine.address,
                        )  # fmt: skip
            yield from _inside_a_tunnel(
                network, "from the other site", outsider, machine, site.networks[0][1]
            )
    for outsider, _ in far_ends.callers(network):
        for machine in network.machines:
            yield from _inside_a_tunnel(network, "remote access", outsider, machine, None)
    target = far_ends.ANNOUNCED[1]
    for outsider, _ in far_ends.neighbours(network):
        for machine in network.machines:
            for port in (*served_ports(network, outsider.address.ip), None):
                if _listed(network, network.inside_of(machine.address), "egress", target, port):
                    yield Flow(
                        "learned route", machine.name, target, port, port, True, (outsider.name,),
                        machine.address,
                    )  # fmt: skip


def _inside_a_tunnel(
    network: Network, rule: str, outsider: Outsider, machine: DeclaredMachine, source: IPv4Address | None
) -> Iterator[Flow]:
    """Yield what the far end of a tunnel tries; a ``source`` of None is drawn from a pool, so all must be let in."""
    tier = network.inside_of(machine.address)
    for port in served_ports(network, machine.address):
        everybody = IPv4Address("0.0.0.0")  # noqa: S104 - an address that only a rule for all of them names
        if _listed(network, tier, "ingress", source or everybody, port):
            yield Flow(rule, outsider.name, machine.address, port, port, True, (machine.name,), source)


def _leaves_elsewhere(network: Network, machine: DeclaredMachine, nic: DeclaredNic) -> bool:
    """Say whether a machine has an address of its own on another public network than that of a NIC.

    Routers differ in whether it leaves by that network all the same: then it is up to others how to go on from there.
    """
    own = [nat.public for nat in network.static_nats if nat.private == machine.address]
    return bool(own) and own[0] not in nic.address.network


def _source_of(network: Network, machine: DeclaredMachine, nic: DeclaredNic) -> IPv4Address | None:
    """Return the address that a machine has on a public network; None where the declaration leaves it open."""
    if network.routed:
        return machine.address
    for nat in network.static_nats:
        if nat.private == machine.address:
            return nat.public
    if network.is_vpc and nic != network.public:
        return None
    # It is the same on a further public network, although the server marks the first address of each VLAN.
    return network.source_nat


def _let_in(
    rules: tuple[Ingress, ...],
    public: IPv4Address | None,
    port: int | None,
    source: IPv4Address,
    wanted: RuleProtocol = "tcp",
) -> bool:
    """Say whether the firewall of a public address, or of a network without NAT, lets a connection in."""
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
        return out and (nic.role == "public" or _listed(network, nic, "ingress", machine.address, port))
    named = any(_egress(rule, machine.address, target, port) for rule in network.egress)
    return named != (network.egress_default == "allow")


def _egress(rule: Egress, source: IPv4Address, target: IPv4Address, port: int | None) -> bool:
    return (
        _matches(rule.protocol, rule.ports, port)
        and _within(source, rule.sources)
        and _within(target, rule.destinations)
    )


def _listed(
    network: Network, nic: DeclaredNic, direction: Literal["ingress", "egress"], other: IPv4Address | IPv6Address,
    port: int | None,
    wanted: RuleProtocol = "tcp",
) -> bool:  # fmt: skip
    """Say what the access list of a NIC says: the first line that matches.

    What none names is dropped; only what leaves by IPv4 passes, where the router translates. A private gateway is a
    tier in this: its ingress list is about what is sent out to it.
    """
    for acl in network.acls:
        here = acl.device == nic.device and acl.direction == direction
        if here and _matches(acl.protocol, acl.ports, port, wanted) and acl.names(other):
            return acl.allowed
    return direction == "egress" and other.version == 4 and not network.routed


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
