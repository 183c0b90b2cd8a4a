"""The topology of a declared network: its NICs, its hosts, and what loopback reaches of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Interface
from itertools import islice

from harness.network import Network, far_ends
from harness.network.flows import HTTP_PORT, served_ports
from harness.network.model import DeclaredMachine, DeclaredNic, Outsider
from harness.network.wire import first_word
from harness.vm.tenant.tenant import TenantHost, TenantSpec, Transit, Uplink
from harness.vm.topology import NicPlan, Topology
from harness.vm.types import TENANTS, of_type


def around(network: Network) -> Topology:
    """Return the topology of a declared network: its NICs and hosts, its public rules reachable from loopback."""
    exposed = [
        (forward.public, port)
        for forward in network.forwards
        if forward.protocol == "tcp"
        for port in range(forward.public_ports.first, forward.public_ports.last + 1)
    ]
    exposed += [(balancer.public, balancer.port) for balancer in network.load_balancers]
    exposed += [
        (nat.public, port) for nat in network.static_nats for port in served_ports(network, nat.private)
    ]
    hosts = [
        *map(partial(_machine_host, network), network.machines),
        *map(partial(_outsider_host, network), network.outsiders),
    ]
    uplinks, transits = _uplinks(network), _transits(network)
    return replace(
        of_type(network.type),
        nics=tuple(
            NicPlan(
                nic.role, nic.mac, str(nic.address.ip), str(nic.address.netmask), later=_later(network, nic)
            )
            for nic in network.nics
        ),
        tenants=(TenantSpec(TENANTS, tuple(hosts), uplinks, far_ends.has_far_ends(network), transits),)
        if hosts or uplinks
        else (),
        # Loopback is on the first public network only.
        exposed=tuple(
            (str(address), port)
            for address, port in exposed
            if network.public is None or address in network.public.address.network
        ),
        parameters=_with_words(of_type(network.type).parameters, network),
    )


def pair_around(network: Network, release: str) -> tuple[Topology, Topology]:
    """Return the topologies of a redundant pair, the tenants with the first one; the cables of the second are missing.

    The server of a release starts them, and says in its own words which of them is to begin.

    Raises:
        UsageError: the network declares no pair.
    """
    second = around(network.second_router())
    first = replace(around(network), parameters=_with_role(network, first_word(release)))
    name = f"{second.vm_name.removesuffix('10-VM')}11-VM"
    return first, replace(
        second, vm_name=name, parameters=_with_role(network, "BACKUP"), tenants=(), exposed=()
    )


def _with_words(parameters: tuple[str, ...], network: Network) -> tuple[str, ...]:
    """Return cmdline parameters with those that a declared network has of its own; they take the others' place."""
    words: dict[str, object] = {}
    if network.is_vpc and (network.cidr or network.inside):
        words["vpccidr"] = network.all_inside
    if network.routed:
        words["is_routed"] = "true"
    present = [nic for nic in network.nics if not _later(network, nic)]
    for nic in present:
        if nic.address6 is not None:
            words[f"{nic.device}ip6"] = nic.address6.ip
            words[f"{nic.device}ip6prelen"] = nic.address6.network.prefixlen
        if nic.role == "guest" and nic.address6 is not None:
            words["ip6firewall"] = "true"
        if nic.role == "public" and nic.gateway6 is not None:
            words["ip6gateway"] = nic.gateway6
    words |= {f"ip6dns{number}": address for number, address in enumerate(network.dns6, 1)}
    if network.is_vpc and network.source_nat is not None:
        words["source_nat_ip"] = network.source_nat
    others = [word for word in parameters if word.partition("=")[0] not in words]
    return (*others, *(f"{key}={value}" for key, value in words.items()))


def _with_role(network: Network, state: str) -> tuple[str, ...]:
    """Return the cmdline parameters of a router of a pair; ``state`` is what it is meant to be at first."""
    pair = network.redundant
    assert pair is not None  # noqa: S101 - second_router() has refused other networks
    inside = pair.guest.address.network
    return (
        "redundant_router=1", f"advert_int={pair.interval}", f"redundant_state={state}", f"guestgw={pair.gateway}",
        f"guestbrd={inside.broadcast_address}", f"guestcidrsize={inside.prefixlen}",
        *_with_words(of_type(network.type).parameters, network),
    )  # fmt: skip


def _echo_ports(network: Network, address: IPv4Address) -> tuple[int, ...]:
    return tuple(port for port in served_ports(network, address) if port != HTTP_PORT)


def _later(network: Network, nic: DeclaredNic) -> bool:
    """Say whether a NIC comes after the boot: of some types all but the control NIC, and further public ones."""
    if network.kind.nics_later:
        return nic.role != "control"
    return nic in network.publics[1:]


def _machine_host(network: Network, machine: DeclaredMachine) -> TenantHost:
    nic = network.inside_of(machine.address)
    # Who gets no address by DHCP has it from the start.
    mask = "" if network.serves_machines else f"/{nic.address.network.prefixlen}"
    return TenantHost(
        machine.name, machine.mac, nic.device, f"{machine.address}{mask}",
        ports=_echo_ports(network, machine.address), extra=_behind(network, machine.address),
    )  # fmt: skip


def _outsider_host(network: Network, outsider: Outsider) -> TenantHost:
    gateway = outsider.gateway or _transit_gateway(network, outsider)
    return TenantHost(
        outsider.name, outsider.mac, outsider.device, str(outsider.address),
        gateway=str(gateway or ""), ports=_echo_ports(network, outsider.address.ip),
        extra=_behind(network, outsider.address.ip),
        address6=str(outsider.address6 or ""), gateway6=_gateway6(network, outsider),
    )  # fmt: skip


def _gateway6(network: Network, outsider: Outsider) -> str:
    """Return an outsider's way to the machines by IPv6: the router itself, where it has an address there."""
    near = network.nic(outsider.device).address6
    return str(near.ip) if near is not None and outsider.address6 is not None else ""


def _uplinks(network: Network) -> tuple[Uplink, ...]:
    """Return what puts loopback on the public network."""
    if network.public is None:
        return ()
    addresses = network.public.address.network
    macs = ("1e:00:00:00:ff:01", "1e:00:00:00:ff:02")
    return (Uplink("uplink", network.public.device, addresses, addresses[1], macs),)


def _transit_gateway(network: Network, outsider: Outsider) -> IPv4Address | None:
    """Return who knows the way from a further public network to the first one; None for hosts of other segments."""
    nic = network.nic(outsider.device)
    return (nic.gateway or _free(network, nic)) if nic in network.publics[1:] else None


def _transits(network: Network) -> tuple[Transit, ...]:
    """Return what joins each further public network with the first one.

    A router gives what leaves by any of them the address of the first one, so answers come back by another way.
    """
    first, *others = network.publics or (None,)
    if first is None:
        return ()
    return tuple(
        Transit(
            f"transit{number}", (first.device, nic.device),
            (_in(first, _free(network, first, number)), _in(nic, nic.gateway or _free(network, nic))),
            (f"1e:00:00:00:fe:{2 * number + 1:02x}", f"1e:00:00:00:fe:{2 * number + 2:02x}"),
        )
        for number, nic in enumerate(others)
    )  # fmt: skip


def _in(nic: DeclaredNic, address: IPv4Address) -> IPv4Interface:
    return IPv4Interface(f"{address}/{nic.address.network.prefixlen}")


def _free(network: Network, nic: DeclaredNic, number: int = 0) -> IPv4Address:
    """Return the last address of a NIC's network that nobody has, or the one so many before it."""
    taken = {row.address for row in network.public_addresses} | {row.address.ip for row in network.outsiders}
    taken |= {row.address.ip for row in network.nics} | {row.gateway for row in network.nics if row.gateway}
    free = (address for address in reversed(list(nic.address.network.hosts())) if address not in taken)
    return next(islice(free, number, None))


def _behind(network: Network, address: IPv4Address) -> tuple[str, ...]:
    """Return the addresses that a host answers at because a route or a tunnel leads to it."""
    found = [route.target for route in network.routes if route.gateway == address]
    found += [behind[1] for row in network.site_to_site if row.peer == address for behind in row.networks]
    found += [far_ends.ANNOUNCED[1] for row in network.bgp_peers if row.address == address]
    return tuple(f"{target}/32" for target in found)
