"""Consistency of a declared network: refuses what no management server would send."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from bundle.errors import UsageError

if TYPE_CHECKING:
    from harness.network.model import DeclaredMachine, Network, Outsider


def check(network: Network) -> None:
    """Make sure that the parts of a network fit together.

    Raises:
        UsageError: with the table and the value at fault.
    """
    where = f"network {network.name!r}"
    if not any(nic.role == "control" for nic in network.nics):
        raise UsageError(f"{where}: a NIC with role 'control' is missing")
    _unique(where, "device of [[nic]]", (nic.device for nic in network.nics))
    hosts: list[DeclaredMachine | Outsider] = [*network.machines, *network.outsiders]
    _unique(where, "MAC address", [*(nic.mac for nic in network.nics), *(host.mac for host in hosts)])
    _unique(where, "name of [[machine]] or [[outsider]]", (host.name for host in hosts))
    _unique(where, "address of [[machine]]", (machine.address for machine in network.machines))
    _unique(where, "address of [[public_address]]", (row.address for row in network.public_addresses))
    _unique(where, "load balancer", ((row.public, row.port) for row in network.load_balancers))
    declared = {row.address for row in network.public_addresses}
    if network.is_balancer:
        _only_balancers(network, where)
        declared = {nic.address.ip for nic in network.inside}
    if network.public_addresses and network.public is None:
        raise UsageError(f"{where}: [[public_address]] needs a NIC with role 'public'")
    for row in network.public_addresses:
        network.public_of(row.address)
    _published(network, where, declared)
    _nics(network, where)
    _ranges(network, where)
    _routing(network, where)
    _vpns(network, where)
    insiders = [row.private for row in network.forwards] + [row.private for row in network.static_nats]
    for address in [*insiders, *(machine.address for machine in network.machines)]:
        network.inside_of(address)
    devices = {nic.device for nic in (*network.inside, *network.private)}
    for acl in network.acls:
        if acl.device not in devices:
            raise UsageError(
                f"{where}: [[acl]] names {acl.device!r}, which is no tier and no private gateway"
            )
    outer = {nic.device: nic for nic in network.nics if nic.role in {"public", "private"}}
    for outsider in network.outsiders:
        if outsider.device not in outer or outsider.address.ip not in outer[outsider.device].address.network:
            raise UsageError(
                f"{where}: {outsider.address} of [[outsider]] is on no public or private network"
            )
        near = outer[outsider.device].address6
        if outsider.address6 is not None and (near is None or outsider.address6.network != near.network):
            raise UsageError(f"{where}: {outsider.address6} of [[outsider]] is not in the network of its NIC")


def _published(network: Network, where: str, declared: set[IPv4Address]) -> None:
    """Make sure that whatever speaks of a public address speaks of a declared one."""
    public = {
        "forward": [row.public for row in network.forwards],
        "static_nat": [row.public for row in network.static_nats],
        "load_balancer": [row.public for row in network.load_balancers],
        "ingress": [row.public for row in network.ingress if row.public is not None],
    }
    for table, addresses in public.items():
        for address in addresses:
            if address not in declared:
                raise UsageError(f"{where}: {address} of [[{table}]] is no [[public_address]]")


def _nics(network: Network, where: str) -> None:
    """Make sure that a starting router's NICs come in the order in which a server gives them."""
    order: tuple[str, ...] = ("guest", "control", "public")
    if network.is_vpc:
        order = ("control", "public", "private", "tier")
    for nic in network.nics:
        if nic.role not in order:
            raise UsageError(f"{where}: a {network.type} has no NIC with role {nic.role!r} ({nic.device})")
    roles = [nic.role for nic in sorted(network.nics, key=lambda nic: nic.number)]
    if roles != sorted(roles, key=order.index):
        raise UsageError(
            f"{where}: the NICs are {', '.join(roles)}; "
            f"a starting {network.type} has them in the order {', '.join(order)}"
        )


def _ranges(network: Network, where: str) -> None:
    """Make sure that further subnets are those of a shared network."""
    if network.aliases and not network.is_shared:
        raise UsageError(f"{where}: [[alias]] is for shared networks, and {network.type} serves none")
    for alias in network.aliases:
        if any(alias.network.overlaps(nic.address.network) for nic in network.nics):
            raise UsageError(f"{where}: {alias} of [[alias]] is in the network of a NIC")


def _routing(network: Network, where: str) -> None:
    """Make sure that a network without NAT declares none, and others no BGP."""
    if network.bgp_peers and network.as_number is None:
        raise UsageError(f"{where}: [[bgp_peer]] needs as_number")
    if network.as_number is not None and not network.routed:
        raise UsageError(f"{where}: as_number is for networks with routed = true")
    if any((rule.public is None) != network.routed for rule in network.ingress):
        raise UsageError(f"{where}: [[ingress]] needs public, unless routed = true, which has none")
    if not network.routed:
        return
    tables = {"forward": network.forwards, "static_nat": network.static_nats}
    for table, rows in tables.items():
        if rows:
            raise UsageError(f"{where}: with routed = true there is no NAT, and so no [[{table}]]")
    if network.public is None:
        raise UsageError(f"{where}: routed = true needs a NIC with role 'public'")


def _vpns(network: Network, where: str) -> None:
    """Make sure that VPNs end at public addresses."""
    ends = [("site_to_site", row.public) for row in network.site_to_site]
    ends += [("vpn", network.vpn.public)] if network.vpn else []
    for table, address in ends:
        if address not in {row.address for row in network.public_addresses}:
            raise UsageError(f"{where}: {address} of [{table}] is no [[public_address]]")
    if network.site_to_site and not network.is_vpc:
        raise UsageError(f"{where}: [[site_to_site]] is for a vpcrouter")


def _only_balancers(network: Network, where: str) -> None:
    """Make sure that an internal load balancer is told of nothing but load balancers."""
    tables = {
        "public_address": network.public_addresses,
        "forward": network.forwards,
        "static_nat": network.static_nats,
        "ingress": network.ingress,
        "egress": network.egress,
        "acl": network.acls,
        "route": network.routes,
    }
    for table, rows in tables.items():
        if rows:
            raise UsageError(f"{where}: an internal load balancer has no [[{table}]]")


def _unique(where: str, what: str, values: Iterable[object]) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise UsageError(f"{where}: {what} {value} is there twice")
        seen.add(value)
