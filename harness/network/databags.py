"""The rules of a declared network as the messages of a management server: one function a message.

Orders, in which they are sent, are those of :mod:`harness.network.orders`. Every function returns None, or nothing,
where the declaration has nothing to send.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from hashlib import blake2b
from ipaddress import IPv4Address

from harness.network import messages
from harness.network.haproxy import STATS_PORT, configuration
from harness.network.model import (
    Acl,
    DeclaredNic,
    Egress,
    Firewall6,
    Ingress,
    LoadBalancer,
    Network,
    PortForward,
    PortRange,
)
from harness.network.wire import reaches

MTU = 1500
# Access lists speak of IPv6, too, since then.
_IPV6 = ("4.17.0",)


def addresses(
    network: Network,
    wanted: Iterable[IPv4Address] | None = None,
    *,
    plugged: frozenset[str] = frozenset(),
    add: bool = True,
) -> Iterator[messages.Addresses]:
    """Yield the public addresses, one message a VLAN, that with source NAT first.

    Args:
        network: the declaration.
        wanted: some of its addresses; None is all.
        plugged: devices that the KVM agent plugs in for this message.
        add: False takes them away.
    """
    chosen = None if wanted is None else set(wanted)
    rows = [row for row in network.public_addresses if chosen is None or row.address in chosen]
    static = {rule.public for rule in network.static_nats}
    owners: dict[str, list[IPv4Address]] = {}
    for row in sorted(rows, key=lambda row: not row.source_nat):
        owners.setdefault(network.public_of(row.address).device, []).append(row.address)
    for device, found in sorted(owners.items(), key=lambda item: network.nic(item[0]).number):
        nic = network.nic(device)
        yield messages.Addresses(
            ip_address=tuple(
                messages.Address(
                    public_ip=str(address),
                    source_nat=address == network.source_nat
                    if network.is_vpc and not network.redundant
                    else number == 0,
                    add=add,
                    one_to_one_nat=address in static,
                    first_i_p=(add and number == 0) or not add,
                    gateway=_text(nic.gateway),
                    netmask=str(nic.address.netmask),
                    vif_mac_address=nic.mac,
                    nic_dev_id=nic.number,
                    new_nic=device in plugged,
                    nw_type="Public",
                    is_private_gateway=False,
                    mtu=MTU,
                )
                for number, address in enumerate(found)
            )
        )


def private_gateway(nic: DeclaredNic, *, add: bool = True) -> messages.Addresses:
    """Return the router's own address on a private gateway."""
    row = messages.Address(
        public_ip=str(nic.address.ip),
        source_nat=False,
        add=add,
        one_to_one_nat=False,
        first_i_p=False,
        gateway=_text(nic.gateway),
        netmask=str(nic.address.netmask),
        vif_mac_address=nic.mac,
        nic_dev_id=nic.number,
        new_nic=False,
        nw_type="Public",
        is_private_gateway=True,
    )
    return messages.Addresses(ip_address=(row,))


def guest_network(network: Network, nic: DeclaredNic, *, add: bool = True) -> messages.GuestNetwork:
    """Return a tier."""
    own, public = nic.address6, network.public
    outer = public.address6 if public else None
    ipv6 = {
        "cidr6": str(own.network.prefixlen),
        "dns6": ",".join(map(str, network.dns6)) or None,
        "router_guest_ip6": str(own.ip),
        "router_guest_ip6_gateway": str(nic.gateway6 or own.ip),
        "router_guest_ip6_cidr": str(own.network),
        "router_ip6": str(outer.ip) if outer else None,
        "router_ip6_gateway": _text(public.gateway6) if public else None,
        "router_ip6_cidr": str(outer.network) if outer else None,
    } if own else {}  # fmt: skip
    return messages.GuestNetwork(
        add=add,
        mac_address=nic.mac,
        device=nic.device,
        router_guest_ip=str(nic.address.ip),
        router_guest_netmask=str(nic.address.netmask),
        router_guest_gateway=str(nic.gateway or nic.address.ip),
        cidr=str(nic.address.network.prefixlen),
        dns=",".join(map(str, network.dns)) or None,
        domain_name=network.domain,
        is_vr_guest_gateway=nic.gateway in (None, nic.address.ip),
        network_id=nic.network_id,
        mtu=MTU,
        **ipv6,
    )


def default_egress(network: Network) -> messages.FirewallRules | None:
    """Return what becomes of traffic that no rule names, as a restart of the network sends it: alone."""
    if network.is_vpc or network.public is None:
        return None
    return messages.FirewallRules(rules=(_default(network, destinations=("0.0.0.0/0",)),))


def egress_at_start(network: Network) -> messages.FirewallRules | None:
    """Return what a starting router is sent: the rules, then the default where it is to let everything out."""
    if network.is_vpc or network.public is None:
        return None
    default = [_default(network, destinations=())] if network.egress_default == "allow" else []
    routed = _ingress_rules(network, None) if network.routed else ()
    return _firewall((*_egress_rules(network), *default, *routed))


def egress(network: Network, gone: Collection[Egress] = ()) -> messages.FirewallRules | None:
    """Return the rules for what leaves; those that are ``gone`` are revoked."""
    return None if network.is_vpc else _firewall(_egress_rules(network, gone))


def ingress(
    network: Network, public: IPv4Address | None = None, gone: Collection[Ingress] = ()
) -> messages.FirewallRules | None:
    """Return the rules for what comes in to one public address, or to all; those that are ``gone`` are revoked."""
    return None if network.is_vpc else _firewall(_ingress_rules(network, public, gone))


def _firewall(rules: Iterable[messages.FirewallRule]) -> messages.FirewallRules | None:
    listed = tuple(rules)
    return messages.FirewallRules(rules=listed) if listed else None


def _default(network: Network, *, destinations: tuple[str, ...]) -> messages.FirewallRule:
    return messages.FirewallRule(
        id=0, src_ip="", protocol="all", revoked=False, already_added=False, source_cidr_list=(),
        dest_cidr_list=destinations, purpose="Firewall", traffic_type="Egress",
        default_egress_policy=network.egress_default == "allow",
    )  # fmt: skip


def _number(rule: Ingress | Egress | Firewall6) -> int:
    """Return the number of a rule: its own, whatever else is declared, for a router knows a rule by it for ever.

    One of 48 bits out of all that the rule says, and never 0, which is the default rule's.
    """
    return int.from_bytes(blake2b(repr(rule).encode(), digest_size=6).digest(), "big") or 1


def _egress_rules(network: Network, gone: Collection[Egress] = ()) -> tuple[messages.FirewallRule, ...]:
    rules = dict.fromkeys((*network.egress, *gone))
    return tuple(_egress_rule(network, rule, revoked=rule in gone) for rule in rules)


def _egress_rule(network: Network, rule: Egress, *, revoked: bool) -> messages.FirewallRule:
    """Return an egress rule; where everything may leave by default, it names what may not."""
    return messages.FirewallRule(
        id=_number(rule),
        src_ip="",
        protocol=rule.protocol,
        src_port_range=_range(rule.ports),
        revoked=revoked,
        already_added=not revoked,
        source_cidr_list=tuple(map(str, rule.sources)),
        dest_cidr_list=tuple(map(str, rule.destinations)),
        purpose="Firewall",
        icmp_type=_icmp(rule.protocol),
        icmp_code=_icmp(rule.protocol),
        traffic_type="Egress",
        default_egress_policy=network.egress_default == "allow",
    )


def _ingress_rules(
    network: Network, public: IPv4Address | None, gone: Collection[Ingress] = ()
) -> tuple[messages.FirewallRule, ...]:
    rules = dict.fromkeys((*network.ingress, *gone))
    return tuple(
        _ingress_rule(network, rule, revoked=rule in gone) for rule in rules if public in (None, rule.public)
    )


def _ingress_rule(network: Network, rule: Ingress, *, revoked: bool) -> messages.FirewallRule:
    return messages.FirewallRule(
        id=_number(rule),
        src_ip=None if network.routed else str(rule.public),
        protocol=rule.protocol,
        src_port_range=_range(rule.ports),
        revoked=revoked,
        already_added=not revoked,
        source_cidr_list=tuple(map(str, rule.cidrs)),
        dest_cidr_list=(),
        purpose="Firewall",
        icmp_type=_icmp(rule.protocol),
        icmp_code=_icmp(rule.protocol),
        traffic_type="Ingress",
        default_egress_policy=False,
    )


def firewall6(network: Network, *, default: bool) -> messages.Firewall6Rules | None:
    """Return the IPv6 rules of an isolated network; ``default`` adds what becomes of all else, as a start does."""
    nic = network.inside[0]
    if network.is_vpc or nic.address6 is None:
        return None
    guests = str(nic.address6.network)
    # What leaves comes first, as in the server's own list.
    ordered = sorted(network.firewall6, key=lambda rule: rule.direction == "ingress")
    rules = [_rule6(network, rule, _number(rule), guests) for rule in ordered]
    if default:
        everything = Firewall6("egress", "all", None, (), ())
        rules.insert(0, _rule6(network, everything, 0, guests))
    return messages.Firewall6Rules(rules=tuple(rules)) if rules else None


def _rule6(network: Network, rule: Firewall6, number: int, guests: str) -> messages.Firewall6Rule:
    outward = rule.direction == "egress"
    return messages.Firewall6Rule(
        id=number,
        src_ip="" if outward else None,
        protocol=rule.protocol,
        src_port_range=_range(rule.ports),
        revoked=False,
        already_added=bool(number),
        source_cidr_list=tuple(map(str, rule.sources)),
        dest_cidr_list=tuple(map(str, rule.destinations)),
        purpose="Ipv6Firewall",
        icmp_type=_icmp(rule.protocol),
        icmp_code=_icmp(rule.protocol),
        traffic_type="Egress" if outward else "Ingress",
        default_egress_policy=network.egress_default == "allow",
        guest_ip6_cidr=guests,
    )


def bgp_peers(network: Network, nic: DeclaredNic) -> messages.BgpPeers | None:
    """Return the peers, each with the network behind a NIC."""
    if network.as_number is None:
        return None
    return messages.BgpPeers(
        peers=tuple(
            messages.BgpAdvertisement(
                peer_id=number,
                peer_as_number=peer.as_number,
                ip4_address=str(peer.address),
                peer_password=peer.password or None,
                network_id=inside.network_id,
                network_as_number=network.as_number,
                guest_ip4_cidr=str(inside.address.network),
                guest_ip6_cidr=str(inside.address6.network) if inside.address6 else None,
                details={"EBGP_MultiHop": str(peer.hops)} if peer.hops else {},
            )
            for number, peer in enumerate(network.bgp_peers, 1)
            for inside in (network.inside if network.is_vpc else (nic,))
        )
    )


def static_nat(
    network: Network,
    nic: DeclaredNic | None = None,
    public: IPv4Address | None = None,
    *,
    revoke: bool = False,
) -> messages.StaticNatRules | None:
    """Return static NAT, to the machines behind one NIC or all, of one public address or all."""
    rules = tuple(
        messages.StaticNatRule(
            revoke=revoke,
            source_ip_address=str(rule.public),
            source_port_range="0:0",
            destination_ip_address=str(rule.private),
        )
        for rule in network.static_nats
        if (nic is None or network.inside_of(rule.private) == nic) and public in (None, rule.public)
    )
    return messages.StaticNatRules(rules=rules) if rules else None


def forwards(
    network: Network,
    nic: DeclaredNic | None = None,
    public: IPv4Address | None = None,
    gone: Collection[PortForward] = (),
) -> messages.ForwardRules | None:
    """Return the port forwards, to the machines behind one NIC or all, of one public address or all.

    Those that are ``gone`` are revoked.
    """
    rules = tuple(
        messages.ForwardRule(
            revoke=rule in gone,
            protocol=rule.protocol,
            source_ip_address=str(rule.public),
            source_port_range=str(rule.public_ports),
            destination_ip_address=str(rule.private),
            destination_port_range=str(rule.private_ports),
            source_cidr_list=",".join(map(str, rule.sources)),
        )
        for rule in network.forwards
        if (nic is None or network.inside_of(rule.private) == nic) and public in (None, rule.public)
    )
    return messages.ForwardRules(rules=rules) if rules else None


def load_balancers(
    network: Network, release: str, moment: int, gone: Collection[LoadBalancer] = ()
) -> messages.LoadBalancers | None:
    """Return all load balancers but those that are ``gone``; ``moment`` is now, in milliseconds since 1970."""
    if not network.load_balancers:
        return None
    kept = tuple(rule for rule in network.load_balancers if rule not in gone)
    inner = network.inside[0].address.ip
    public = network.source_nat or inner
    rule = messages.Balancing(
        configuration=tuple(configuration(kept, public, release)),
        tmp_cfg_file_path="/etc/haproxy/",
        tmp_cfg_file_name=f"haproxy.cfg.new.{moment}",
        ssl_certs=(),
        add_rules=tuple(f"{rule.public}:{rule.port}:" for rule in kept),
        remove_rules=tuple(f"{rule.public}:{rule.port}:" for rule in network.load_balancers if rule in gone),
        stat_rules=(f"{public}:{STATS_PORT}:0/0:,",),
        router_ip=str(inner if network.is_vpc or network.is_balancer else network.control.address.ip),
    )
    return messages.LoadBalancers(rules=(rule,))


def access_list(network: Network, nic: DeclaredNic, release: str) -> messages.NetworkAcl | None:
    """Return the whole access list of a tier or of a private gateway."""
    rows = [acl for acl in network.acls if acl.device == nic.device]
    if not rows:
        return None
    return messages.NetworkAcl(
        device=nic.device,
        mac_address=nic.mac,
        private_gateway_acl=nic.role == "private",
        nic_ip=str(nic.address.ip),
        nic_netmask=str(nic.address.network.prefixlen),
        nic_ip6_cidr=str(nic.address6.network) if nic.address6 else None,
        ingress_rules=tuple(_acl_rule(row, release) for row in rows if row.direction == "ingress"),
        egress_rules=tuple(_acl_rule(row, release) for row in rows if row.direction == "egress"),
    )


def _acl_rule(acl: Acl, release: str) -> messages.AclRule:
    everything = "0.0.0.0/0,::/0" if reaches(release, _IPV6) else "0.0.0.0/0"
    ports = acl.ports
    return messages.AclRule(
        type=acl.protocol,
        first_port=(ports.first if ports else 0) if acl.protocol in {"tcp", "udp"} else None,
        last_port=(ports.last if ports else 0) if acl.protocol in {"tcp", "udp"} else None,
        icmp_type=_icmp(acl.protocol),
        icmp_code=_icmp(acl.protocol),
        cidr=",".join(map(str, acl.cidrs)) or everything,
        allowed=acl.allowed,
    )


def static_routes(network: Network) -> messages.StaticRoutes | None:
    """Return all static routes of a VPC."""
    routes = tuple(
        messages.StaticRoute(
            revoke=False,
            ip_address=_text(route.address),
            gateway=str(route.gateway),
            network=str(route.network),
        )
        for route in network.routes
    )
    return messages.StaticRoutes(routes=routes) if routes else None


def _range(ports: PortRange | None) -> tuple[int, int] | None:
    return (ports.first, ports.last) if ports else None


def _icmp(protocol: str) -> int | None:
    """Return type and code of ICMP, any, for rules about it."""
    return -1 if protocol == "icmp" else None


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)
