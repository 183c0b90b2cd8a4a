"""Reads a declared network from one TOML file and checks it.

``harness/network/shipped/router.toml`` is the example that the main job uses and explains every table.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from dataclasses import replace
from importlib.resources import files
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from pathlib import Path

from bundle import catalogue
from bundle.errors import UsageError
from harness.network.consistency import check
from harness.network.model import (
    Acl,
    BgpPeer,
    DeclaredMachine,
    DeclaredNic,
    Egress,
    Firewall6,
    Ingress,
    LoadBalancer,
    LoadBalancerMember,
    Network,
    NicRole,
    Outsider,
    PortForward,
    PortRange,
    PublicAddress,
    Redundant,
    Route,
    SiteToSite,
    StaticNat,
    Vpn,
)
from harness.network.toml_table import Table

_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_POLICY = re.compile(r"[a-z0-9-]+;[a-z0-9]+")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def load(source: str | Path = "router") -> Network:
    """Read a declared network: the name of one that is shipped, or the path of a TOML file.

    Raises:
        UsageError: there is no such file, it is no TOML, or something in it makes no sense.
    """
    shipped = files("harness.network") / "shipped" / f"{source}.toml"
    try:
        known = isinstance(source, str) and _NAME.fullmatch(source) and shipped.is_file()
        text = shipped.read_text("utf-8") if known else Path(source).read_text("utf-8")
        return parse(tomllib.loads(text), str(source))
    except OSError as error:
        raise UsageError(f"cannot read the network {str(source)!r}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the network {str(source)!r} is no TOML: {error}") from None


def parse(document: dict[str, object], where: str = "network") -> Network:
    """Turn a parsed TOML document into a network and check that it fits together.

    Raises:
        UsageError: with the table, the key and the value at fault.
    """
    top = Table(document, where)
    vpn, pair = top.table("vpn"), top.table("redundant")
    nics = tuple(map(_nic, top.tables("nic")))
    declarable = tuple(row.name for row in catalogue.load().types.values() if row.network)
    network = Network(
        name=top.text("name", _NAME),
        type=top.choice("type", declarable),
        domain=top.text("domain"),
        dns=tuple(top.items("dns", IPv4Address)),
        egress_default=top.choice("egress_default", ("allow", "deny"), "allow"),
        nics=nics,
        public_addresses=tuple(
            PublicAddress(row.value("address", IPv4Address), row.flag("source_nat"))
            for row in top.tables("public_address")
        ),
        forwards=tuple(map(_forward, top.tables("forward"))),
        static_nats=tuple(
            StaticNat(row.value("public", IPv4Address), row.value("private", IPv4Address))
            for row in top.tables("static_nat")
        ),
        load_balancers=tuple(map(_load_balancer, top.tables("load_balancer"))),
        ingress=tuple(map(_ingress, top.tables("ingress"))),
        egress=tuple(_egress(row, nics) for row in top.tables("egress")),
        acls=tuple(map(_acl, top.tables("acl"))),
        machines=tuple(map(_machine, top.tables("machine"))),
        outsiders=tuple(map(_outsider, top.tables("outsider"))),
        routes=tuple(map(_route, top.tables("route"))),
        vpn=_vpn(vpn) if vpn else None,
        redundant=_redundant(pair, nics) if pair else None,
        cidr=top.optional("cidr", IPv4Network),
        routed=top.flag("routed"),
        dns6=tuple(top.items("dns6", IPv6Address, [])),
        aliases=tuple(row.value("address", _interface) for row in top.tables("alias")),
        firewall6=tuple(map(_firewall6, top.tables("firewall6"))),
        site_to_site=tuple(map(_site_to_site, top.tables("site_to_site"))),
        as_number=top.optional("as_number", int),
        bgp_peers=tuple(map(_bgp_peer, top.tables("bgp_peer"))),
    )
    top.finish()
    check(network)
    return network


def _interface(value: object) -> IPv4Interface:
    """Return an address with its network, which must have room for another one."""
    if not isinstance(value, str):
        raise TypeError("expected an address in quotes")
    found = IPv4Interface(value)
    if found.network.num_addresses < 2:
        raise ValueError("nobody else fits into its network (write it with a prefix, such as /24)")
    return found


def _nic(row: Table) -> DeclaredNic:
    return DeclaredNic(
        device=row.text("device", re.compile(r"eth\d{1,2}")),
        role=row.choice("role", ("guest", "control", "public", "tier", "private")),
        address=row.value("address", _interface),
        mac=row.text("mac", _MAC),
        gateway=row.optional("gateway", IPv4Address),
        address6=row.optional("address6", IPv6Interface),
        gateway6=row.optional("gateway6", IPv6Address),
    )


def _forward(row: Table) -> PortForward:
    public_ports = row.value("public_ports", ports)
    forward = PortForward(
        public=row.value("public", IPv4Address),
        public_ports=public_ports,
        private=row.value("private", IPv4Address),
        private_ports=row.value("private_ports", ports) if row.has("private_ports") else public_ports,
        protocol=row.choice("protocol", ("tcp", "udp"), "tcp"),
        sources=tuple(row.items("sources", IPv4Network, [])),
    )
    if public_ports.last - public_ports.first != forward.private_ports.last - forward.private_ports.first:
        raise row.error(f"{public_ports} and {forward.private_ports} are ranges of different lengths")
    return forward


def _load_balancer(row: Table) -> LoadBalancer:
    return LoadBalancer(
        public=row.value("public", IPv4Address),
        port=row.value("port", port),
        members=tuple(row.items("members", _member)),
        algorithm=row.choice("algorithm", ("roundrobin", "leastconn", "source"), "roundrobin"),
        sources=tuple(row.items("sources", IPv4Network, [])),
    )


def _ingress(row: Table) -> Ingress:
    return Ingress(
        public=row.optional("public", IPv4Address),
        protocol=row.choice("protocol", ("tcp", "udp", "icmp", "all"), "tcp"),
        ports=row.optional("ports", ports),
        cidrs=tuple(row.items("cidrs", IPv4Network, ["0.0.0.0/0"])),
    )


def _egress(row: Table, nics: tuple[DeclaredNic, ...]) -> Egress:
    # A server that is told no source takes the guest network, and no destination means any.
    own = [str(nic.address.network) for nic in nics if nic.role in {"guest", "tier"}]
    return Egress(
        protocol=row.choice("protocol", ("tcp", "udp", "icmp", "all"), "all"),
        ports=row.optional("ports", ports),
        sources=tuple(row.items("sources", IPv4Network, own)),
        destinations=tuple(row.items("destinations", IPv4Network, ["0.0.0.0/0"])),
    )


def _acl(row: Table) -> Acl:
    return Acl(
        device=row.text("device"),
        direction=row.choice("direction", ("ingress", "egress"), "ingress"),
        protocol=row.choice("protocol", ("tcp", "udp", "icmp", "all"), "tcp"),
        ports=row.optional("ports", ports),
        cidrs=(row.value("cidr", ip_network),)
        if row.has("cidr")
        else tuple(row.items("cidrs", ip_network, [])),
        allowed=row.flag("allowed", True),
    )


def _machine(row: Table) -> DeclaredMachine:
    metadata = row.table("metadata")
    return DeclaredMachine(
        name=row.text("name", _NAME),
        mac=row.text("mac", _MAC),
        address=row.value("address", IPv4Address),
        user_data=row.text("user_data", default=""),
        metadata=tuple(metadata.pairs()) if metadata else (),
        address6=row.optional("address6", IPv6Address),
    )


def _outsider(row: Table) -> Outsider:
    return Outsider(
        name=row.text("name", _NAME),
        mac=row.text("mac", _MAC),
        device=row.text("device"),
        address=row.value("address", _interface),
        gateway=row.optional("gateway", IPv4Address),
        address6=row.optional("address6", IPv6Interface),
    )


def _firewall6(row: Table) -> Firewall6:
    return Firewall6(
        direction=row.choice("direction", ("ingress", "egress"), "ingress"),
        protocol=row.choice("protocol", ("tcp", "udp", "icmp", "all"), "tcp"),
        ports=row.optional("ports", ports),
        sources=tuple(row.items("sources", IPv6Network, [])),
        destinations=tuple(row.items("destinations", IPv6Network, [])),
    )


def _route(row: Table) -> Route:
    return Route(
        network=row.value("network", IPv4Network),
        gateway=row.value("gateway", IPv4Address),
        address=row.optional("address", IPv4Address),
    )


def _site_to_site(row: Table) -> SiteToSite:
    return SiteToSite(
        public=row.value("public", IPv4Address),
        peer=row.value("peer", IPv4Address),
        networks=tuple(row.items("networks", IPv4Network)),
        preshared_key=row.text("preshared_key"),
        policy=row.text("policy", _POLICY, "aes128-sha1;modp1536"),
        passive=row.flag("passive"),
    )


def _bgp_peer(row: Table) -> BgpPeer:
    return BgpPeer(
        address=row.value("address", IPv4Address),
        as_number=row.value("as_number", int),
        password=row.text("password", default=""),
        hops=row.optional("hops", int),
    )


def _redundant(row: Table, nics: tuple[DeclaredNic, ...]) -> Redundant:
    by_role = {nic.role: nic for nic in nics}

    def second(role: NicRole) -> DeclaredNic:
        if role not in by_role:
            raise row.error(f"a pair needs a NIC with role {role!r}")
        return replace(
            by_role[role],
            address=row.value(f"{role}_address", _interface),
            mac=row.text(f"{role}_mac", _MAC),
        )

    pair = Redundant(
        gateway=row.value("gateway", IPv4Address),
        interval=row.optional("interval", int) or 1,
        guest=second("guest"),
        control=second("control"),
    )
    row.finish()
    return pair


def _vpn(row: Table) -> Vpn:
    users = row.table("users")
    vpn = Vpn(
        public=row.value("public", IPv4Address),
        pool=row.text("pool", re.compile(r"[0-9.]+-[0-9.]+")),
        preshared_key=row.text("preshared_key"),
        users=tuple(users.pairs()) if users else (),
    )
    row.finish()
    return vpn


def port(value: object) -> int:
    """Return a port number.

    Raises:
        ValueError: it is none.
    """
    number = int(str(value))
    if not 0 < number < 65536:
        raise ValueError(f"{number} is no port")
    return number


def ports(value: object) -> PortRange:
    """Return a port or a range of ports, written ``22`` or ``"8000-8080"``.

    Raises:
        ValueError: it is neither.
    """
    first, _, last = str(value).partition("-")
    found = PortRange(port(first), port(last or first))
    if found.first > found.last:
        raise ValueError(f"{value} ends before it begins")
    return found


def _member(value: object) -> LoadBalancerMember:
    address, _, number = str(value).partition(":")
    return LoadBalancerMember(ipaddress.IPv4Address(address), port(number))
