"""The VPNs of a declared network as messages: remote access with its users, and connections to other sites."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address

from harness.network import messages
from harness.network.model import Network
from harness.network.wire import Message


def vpn_users(network: Network, gone: Collection[str] = ()) -> messages.VpnUsers | None:
    """Return the users of the remote-access VPN; those that are ``gone`` come first."""
    if network.vpn is None:
        return None
    users = sorted(network.vpn.users, key=lambda user: user[0] not in gone)
    return messages.VpnUsers(
        vpn_users=tuple(
            messages.VpnUser(user=user, password=password, add=user not in gone) for user, password in users
        )
    )


def vpn(network: Network, *, create: bool = True) -> Iterator[Message]:
    """Yield the remote-access VPN: its users, then the server."""
    declared, users = network.vpn, vpn_users(network)
    if declared is None or users is None:
        return
    first, _, last = declared.pool.partition("-")
    yield users
    yield messages.RemoteAccessVpn(
        create=create,
        ip_range=f"{IPv4Address(first) + 1}-{last}",  # the first address is the server's own
        preshared_key=declared.preshared_key,
        vpn_server_ip=str(declared.public),
        local_ip=first,
        local_cidr=str(network.all_inside),
        public_interface="eth1" if network.is_vpc else "eth2",
    )


def site_to_site(network: Network) -> Iterator[messages.SiteToSiteVpn]:
    """Yield the connections to other sites."""
    for connection in network.site_to_site:
        yield messages.SiteToSiteVpn(
            local_public_ip=str(connection.public),
            local_guest_cidr=str(network.all_inside),
            local_public_gateway=str(network.public_of(connection.public).gateway),
            peer_gateway_ip=str(connection.peer),
            peer_guest_cidr_list=",".join(map(str, connection.networks)),
            esp_policy=connection.policy,
            ike_policy=connection.policy,
            ipsec_psk=connection.preshared_key,
            ike_version="ike",
            ike_lifetime=86400,
            esp_lifetime=3600,
            create=True,
            dpd=True,
            passive=connection.passive,
            encap=False,
            split_connections=False,
        )
