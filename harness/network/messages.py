"""Every message that a management server sends to a virtual router: its keys, their types, and since which release.

A record's fields are the keys of the JSON object, in the server's order. ``None`` is a key that is not there: the
server leaves nulls out, but for those inside a list. A key that came with a release is left out for older ones.
The facts are those of CloudStack 4.14 to 4.22 as its servers serialise them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from harness.network.wire import Message, WireObject, since

# Folder, file and content of a row of metadata.
MetadataRow: TypeAlias = tuple[str, str, str | None]


@dataclass(frozen=True, kw_only=True)
class Address(WireObject):
    """A public address, or the router's own on a private gateway."""

    public_ip: str
    source_nat: bool
    add: bool
    one_to_one_nat: bool
    first_i_p: bool
    gateway: str | None = None
    netmask: str
    vif_mac_address: str | None = None
    nic_dev_id: int | None = None
    new_nic: bool
    nw_type: str
    is_private_gateway: bool | None = since("4.14.1")
    mtu: int | None = since("4.18.0")


@dataclass(frozen=True, kw_only=True)
class Addresses(Message):
    """The addresses of one VLAN."""

    STEM = "ip_associations"
    TYPE = "ips"
    ip_address: tuple[Address, ...]


@dataclass(frozen=True, kw_only=True)
class GuestNetwork(Message):
    """One tier of a VPC."""

    STEM = "guest_network"
    TYPE = "guestnetwork"
    add: bool
    mac_address: str
    device: str
    router_guest_ip: str
    router_guest_netmask: str
    router_guest_gateway: str
    cidr: str
    dns: str | None = None
    domain_name: str | None = None
    is_vr_guest_gateway: bool | None = since("4.20.0")
    network_id: int | None = since("4.21.0")
    mtu: int | None = since("4.18.0")
    cidr6: str | None = since("4.17.0")
    dns6: str | None = since("4.17.0")
    router_guest_ip6: str | None = since("4.17.0")
    router_guest_ip6_gateway: str | None = since("4.17.0")
    router_guest_ip6_cidr: str | None = since("4.17.0")
    router_ip6: str | None = since("4.17.0")
    router_ip6_gateway: str | None = since("4.17.0")
    router_ip6_cidr: str | None = since("4.17.0")


@dataclass(frozen=True, kw_only=True)
class AclRule(WireObject):
    """One line of an access list; ``cidr`` is comma-joined."""

    type: str
    first_port: int | None = None
    last_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    protocol: int | None = None
    cidr: str
    allowed: bool


@dataclass(frozen=True, kw_only=True)
class NetworkAcl(Message):
    """The whole access list of a device."""

    STEM = "network_acl"
    TYPE = "networkacl"
    device: str
    mac_address: str
    private_gateway_acl: bool
    nic_ip: str
    nic_netmask: str
    nic_ip6_cidr: str | None = since("4.17.0")
    ingress_rules: tuple[AclRule, ...]
    egress_rules: tuple[AclRule, ...]


@dataclass(frozen=True, kw_only=True)
class FirewallRule(WireObject):
    """A rule of the firewall; number 0 is the default of what leaves."""

    id: int
    src_ip: str | None = None
    protocol: str
    src_port_range: tuple[int, ...] | None = None
    revoked: bool
    already_added: bool
    source_cidr_list: tuple[str, ...]
    dest_cidr_list: tuple[str, ...]
    purpose: str
    icmp_type: int | None = None
    icmp_code: int | None = None
    traffic_type: str
    default_egress_policy: bool


@dataclass(frozen=True, kw_only=True)
class FirewallRules(Message):
    """Rules for some public addresses, or for what leaves a network."""

    STEM = "firewall_rules"
    TYPE = "firewallrules"
    rules: tuple[FirewallRule, ...]


@dataclass(frozen=True, kw_only=True)
class Firewall6Rule(FirewallRule):
    """A rule of the IPv6 firewall."""

    guest_ip6_cidr: str


@dataclass(frozen=True, kw_only=True)
class Firewall6Rules(Message):
    """The IPv6 rules of an isolated network."""

    STEM = "ipv6_firewall_rules"
    TYPE = "ipv6firewallrules"
    SINCE = ("4.17.0",)
    rules: tuple[Firewall6Rule, ...]


@dataclass(frozen=True, kw_only=True)
class ForwardRule(WireObject):
    """A port forward; ``source_cidr_list`` is comma-joined."""

    revoke: bool
    protocol: str
    source_ip_address: str
    source_port_range: str
    destination_ip_address: str
    destination_port_range: str
    source_cidr_list: str | None = since("4.19.2", "4.20.1")


@dataclass(frozen=True, kw_only=True)
class ForwardRules(Message):
    """Port forwards."""

    STEM = "forwarding_rules"
    TYPE = "forwardrules"
    rules: tuple[ForwardRule, ...]


@dataclass(frozen=True, kw_only=True)
class StaticNatRule(WireObject):
    """A public address of one machine; ports and protocol only in the old kind of rule."""

    revoke: bool
    protocol: str | None = None
    source_ip_address: str
    source_port_range: str
    destination_ip_address: str


@dataclass(frozen=True, kw_only=True)
class StaticNatRules(Message):
    """Static NAT."""

    STEM = "staticnat_rules"
    TYPE = "staticnatrules"
    rules: tuple[StaticNatRule, ...]


@dataclass(frozen=True, kw_only=True)
class Certificate(WireObject):
    """A TLS certificate of a load balancer."""

    name: str
    cert: str
    key: str
    chain: str | None = None
    password: str | None = None


@dataclass(frozen=True, kw_only=True)
class Balancing(WireObject):
    """All load balancers of a router; an element of ``configuration`` may hold several lines."""

    configuration: tuple[str, ...]
    tmp_cfg_file_path: str
    tmp_cfg_file_name: str
    ssl_certs: tuple[Certificate, ...] | None = since("4.22.0")
    add_rules: tuple[str, ...]
    remove_rules: tuple[str, ...]
    stat_rules: tuple[str, ...]
    router_ip: str


@dataclass(frozen=True, kw_only=True)
class LoadBalancers(Message):
    """Load balancers: ``rules`` has exactly one element."""

    STEM = "load_balancer"
    TYPE = "loadbalancer"
    rules: tuple[Balancing, ...]


@dataclass(frozen=True, kw_only=True)
class DhcpEntry(Message):
    """The lease and the name of one NIC."""

    STEM = "vm_dhcp_entry"
    TYPE = "dhcpentry"
    host_name: str
    mac_address: str
    ipv4_address: str | None = None
    ipv6_address: str | None = None
    ipv6_duid: str
    dns_addresses: str | None = None
    default_gateway: str | None = None
    default_entry: bool
    remove: bool


@dataclass(frozen=True, kw_only=True)
class Alias(WireObject):
    """The router's address in a further subnet of a shared network."""

    revoke: bool
    ip_address: str
    netmask: str
    count: int


@dataclass(frozen=True, kw_only=True)
class IpAliases(Message):
    """The router's further addresses."""

    STEM = "ip_aliases"
    TYPE = "ipaliases"
    aliases: tuple[Alias, ...]


@dataclass(frozen=True, kw_only=True)
class Subnet(WireObject):
    """A subnet that addresses are given in."""

    router_ip_address: str
    gateway: str
    netmask: str
    first_ip_of_subnet: str


@dataclass(frozen=True, kw_only=True)
class DhcpConfig(Message):
    """All subnets of a shared network; follows its aliases."""

    STEM = "dhcp"
    TYPE = "dhcpconfig"
    entries: tuple[Subnet, ...]


@dataclass(frozen=True, kw_only=True)
class VmData(Message):
    """The metadata of one machine."""

    STEM = "vm_metadata"
    TYPE = "vmdata"
    vm_ip_address: str | None = None
    vm_metadata: tuple[MetadataRow, ...]


@dataclass(frozen=True, kw_only=True)
class VmPassword(Message):
    """A new password of a machine."""

    STEM = "vm_password"
    TYPE = "vmpassword"
    ip_address: str
    password: str


@dataclass(frozen=True, kw_only=True)
class VpnUser(WireObject):
    """A user of the remote-access VPN."""

    user: str
    password: str
    add: bool


@dataclass(frozen=True, kw_only=True)
class VpnUsers(Message):
    """Users to remove, then all that remain."""

    STEM = "vpn_user_list"
    TYPE = "vpnuserlist"
    vpn_users: tuple[VpnUser, ...]


@dataclass(frozen=True, kw_only=True)
class RemoteAccessVpn(Message):
    """The remote-access VPN."""

    STEM = "remote_access_vpn"
    TYPE = "remoteaccessvpn"
    create: bool
    ip_range: str
    preshared_key: str
    vpn_server_ip: str
    local_ip: str
    local_cidr: str
    public_interface: str


@dataclass(frozen=True, kw_only=True)
class SiteToSiteVpn(Message):
    """One connection to another site; lifetimes are in seconds."""

    STEM = "site_2_site_vpn"
    TYPE = "site2sitevpn"
    local_public_ip: str
    local_guest_cidr: str
    local_public_gateway: str
    peer_gateway_ip: str
    peer_guest_cidr_list: str
    esp_policy: str
    ike_policy: str
    ipsec_psk: str
    ike_version: str | None = since("4.15.1")
    ike_lifetime: int
    esp_lifetime: int
    create: bool
    dpd: bool
    passive: bool
    encap: bool
    split_connections: bool | None = since("4.15.1")


@dataclass(frozen=True, kw_only=True)
class StaticRoute(WireObject):
    """A route; ``ip_address`` is the router's own on the private gateway."""

    revoke: bool
    ip_address: str | None = None
    gateway: str
    network: str


@dataclass(frozen=True, kw_only=True)
class StaticRoutes(Message):
    """All static routes of a VPC."""

    STEM = "static_routes"
    TYPE = "staticroutes"
    routes: tuple[StaticRoute, ...]


@dataclass(frozen=True, kw_only=True)
class MonitorService(Message):
    """A service that a router watches; intervals are in minutes."""

    STEM = "monitor_service"
    TYPE = "monitorservice"
    config: str | None = None
    disable_monitoring: str | None = None
    health_checks_enabled: bool
    health_checks_basic_run_interval: int
    health_checks_advanced_run_interval: int
    excluded_health_checks: str
    health_checks_config: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class BgpAdvertisement(WireObject):
    """A peer and one network that it is told of."""

    peer_id: int
    peer_as_number: int
    ip4_address: str | None = None
    ip6_address: str | None = None
    peer_password: str | None = None
    network_id: int
    network_as_number: int
    guest_ip4_cidr: str | None = None
    guest_ip6_cidr: str | None = None
    details: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class BgpPeers(Message):
    """All peers."""

    STEM = "bgp_peers"
    TYPE = "bgppeers"
    SINCE = ("4.20.0",)
    peers: tuple[BgpAdvertisement, ...]


def kinds() -> dict[str, type[Message]]:
    """Return every kind of message by its ``TYPE``."""
    return {kind.TYPE: kind for kind in Message.__subclasses__()}
