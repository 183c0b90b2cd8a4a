"""Whether a declared network fits together: refuses what no management server would send."""

from __future__ import annotations

from collections.abc import Iterable
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
    if network.kind.family == "balancer":
        _only_balancers(network, where)
        declared = {nic.address.ip for nic in network.inside}
    public = {
        "forward": [row.public for row in network.forwards],
        "static_nat": [row.public for row in network.static_nats],
        "load_balancer": [row.public for row in network.load_balancers],
        "ingress": [row.public for row in network.ingress],
    }
    for table, addresses in public.items():
        for address in addresses:
            if address not in declared:
                raise UsageError(f"{where}: {address} of [[{table}]] is no [[public_address]]")
    if network.public_addresses and network.public is None:
        raise UsageError(f"{where}: [[public_address]] needs a NIC with role 'public'")
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
