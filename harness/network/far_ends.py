"""Far ends of a declared network: the outsiders that have a tunnel or a session with its router."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from harness.network.model import BgpPeer, Network, Outsider, SiteToSite

# What a neighbour in BGP announces: a network that the router knows no other way to.
ANNOUNCED = IPv4Network("203.0.113.0/24")


def needs_daemons(network: Network) -> bool:
    """Say whether the router needs programs that only some networks do: those of VPN, BGP or IPv6."""
    by_ipv6 = any(nic.address6 is not None for nic in network.inside)
    return by_ipv6 or bool(network.vpn or network.site_to_site or network.bgp_peers)


def has_far_ends(network: Network) -> bool:
    """Say whether an outsider is the far end of a tunnel or a session."""
    return any((*callers(network), *sites(network), *neighbours(network)))


def sites(network: Network) -> Iterator[tuple[Outsider, SiteToSite]]:
    """Yield the outsiders that are the router of another site, with the connection to it."""
    for row in network.site_to_site:
        if (outsider := _at(network, row.peer)) is not None:
            yield outsider, row


def neighbours(network: Network) -> Iterator[tuple[Outsider, BgpPeer]]:
    """Yield the outsiders that are told of the networks behind the router, with what is declared of them."""
    for row in network.bgp_peers:
        if (outsider := _at(network, row.address)) is not None:
            yield outsider, row


def callers(network: Network) -> Iterator[tuple[Outsider, tuple[str, str]]]:
    """Yield the outsiders that log in at the remote-access VPN, each as another of its users, with that password.

    They are those on the VPN's network that are no router themselves.
    """
    if network.vpn is None:
        return
    routers = {row.peer for row in network.site_to_site} | {row.address for row in network.bgp_peers}
    nic = network.public_of(network.vpn.public)
    there = [row for row in network.outsiders if row.device == nic.device and row.address.ip not in routers]
    yield from zip(there, network.vpn.users, strict=False)


def vpn_server(network: Network) -> IPv4Address | None:
    """Return the address that the router itself has in the tunnels of its remote-access VPN."""
    return IPv4Address(network.vpn.pool.partition("-")[0]) if network.vpn else None


def _at(network: Network, address: IPv4Address) -> Outsider | None:
    return next((row for row in network.outsiders if row.address.ip == address), None)
