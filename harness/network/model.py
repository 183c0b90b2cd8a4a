"""The declared network: one TOML file, checked, as frozen values.

``harness/networks/router.toml`` is the example that the main job uses and explains every table.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Literal, TypeAlias

from bundle.errors import UsageError
from harness.network.checking import check
from harness.network.reading import Table

Protocol: TypeAlias = Literal["tcp", "udp", "icmp", "all"]
# "private" is the gateway of a VPC to another private network.
Role: TypeAlias = Literal["guest", "control", "public", "tier", "private"]
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Ports:
    """A range of ports, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        """Return the range as databags write it: ``22:22``."""
        return f"{self.first}:{self.last}"


@dataclass(frozen=True)
class Nic:
    """A network card of the VM, in the order of CloudStack's contract."""

    device: str
    role: Role
    address: IPv4Interface
    mac: str
    gateway: IPv4Address | None = None


@dataclass(frozen=True)
class PublicAddress:
    """A public address on a public NIC."""

    address: IPv4Address
    source_nat: bool = False


@dataclass(frozen=True)
class Forward:
    """A port forward."""

    public: IPv4Address
    public_ports: Ports
    private: IPv4Address
    private_ports: Ports
    protocol: Protocol


@dataclass(frozen=True)
class StaticNat:
    """A public address that belongs to one machine."""

    public: IPv4Address
    private: IPv4Address


@dataclass(frozen=True)
class Member:
    """A server behind a load balancer."""

    address: IPv4Address
    port: int


@dataclass(frozen=True)
class LoadBalancer:
    """A load-balancer rule."""

    public: IPv4Address
    port: int
    members: tuple[Member, ...]
    algorithm: Literal["roundrobin", "leastconn", "source"]


@dataclass(frozen=True)
class Ingress:
    """A firewall rule that lets traffic in to a public address."""

    public: IPv4Address
    protocol: Protocol
    ports: Ports | None
    cidrs: tuple[IPv4Network, ...]


@dataclass(frozen=True)
class Egress:
    """A firewall rule for what leaves the guest network."""

    protocol: Protocol
    ports: Ports | None
    sources: tuple[IPv4Network, ...]
    destinations: tuple[IPv4Network, ...]


@dataclass(frozen=True)
class Acl:
    """One line of a tier's access list."""

    device: str
    direction: Literal["ingress", "egress"]
    protocol: Protocol
    ports: Ports | None
    cidr: IPv4Network
    allowed: bool


@dataclass(frozen=True)
class Machine:
    """A tenant: its DHCP and DNS entry, its user data and metadata."""

    name: str
    mac: str
    address: IPv4Address
    user_data: str
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Outsider:
    """A host on a public or private network, with a fixed address: a witness of what comes out of the router."""

    name: str
    mac: str
    device: str
    address: IPv4Interface
    gateway: IPv4Address | None


@dataclass(frozen=True)
class Route:
    """A static route of a VPC."""

    network: IPv4Network
    gateway: IPv4Address
    address: IPv4Address

    @property
    def target(self) -> IPv4Address:
        """An address that the route leads to."""
        return self.network[1]


@dataclass(frozen=True)
class Vpn:
    """A remote-access VPN with its users."""

    public: IPv4Address
    pool: str
    preshared_key: str
    users: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Network:
    """A declared network around one router."""

    name: str
    type: str
    domain: str
    dns: tuple[IPv4Address, ...]
    egress_default: Literal["allow", "deny"]
    nics: tuple[Nic, ...]
    public_addresses: tuple[PublicAddress, ...] = ()
    forwards: tuple[Forward, ...] = ()
    static_nats: tuple[StaticNat, ...] = ()
    load_balancers: tuple[LoadBalancer, ...] = ()
    ingress: tuple[Ingress, ...] = ()
    egress: tuple[Egress, ...] = ()
    acls: tuple[Acl, ...] = ()
    machines: tuple[Machine, ...] = ()
    outsiders: tuple[Outsider, ...] = ()
    routes: tuple[Route, ...] = ()
    vpn: Vpn | None = None

    @cached_property
    def control(self) -> Nic:
        """The NIC that management reaches the VM on."""
        return next(nic for nic in self.nics if nic.role == "control")

    @cached_property
    def public(self) -> Nic | None:
        """The first public NIC."""
        return next((nic for nic in self.nics if nic.role == "public"), None)

    @cached_property
    def inside(self) -> tuple[Nic, ...]:
        """The NICs that tenants are behind: the guest NIC, or the tiers of a VPC."""
        return tuple(nic for nic in self.nics if nic.role in {"guest", "tier"})

    @property
    def is_vpc(self) -> bool:
        """Whether access lists decide, instead of a firewall for each public address."""
        return self.type == "vpcrouter"

    def nic(self, device: str) -> Nic:
        """Return the NIC of that name."""
        return next(nic for nic in self.nics if nic.device == device)

    @cached_property
    def private(self) -> tuple[Nic, ...]:
        """The private gateways of a VPC."""
        return tuple(nic for nic in self.nics if nic.role == "private")

    def inside_of(self, address: IPv4Address) -> Nic:
        """Return the NIC whose network an inside address lies in."""
        for nic in self.inside:
            if address in nic.address.network:
                return nic
        raise UsageError(f"network {self.name!r}: {address} lies in no guest network or tier")

    @property
    def rule_count(self) -> int:
        """How many rules a re-application sends."""
        users = len(self.vpn.users) + 1 if self.vpn else 0
        return users + sum(
            len(rows)
            for rows in (
                self.public_addresses, self.forwards, self.static_nats, self.load_balancers,
                self.ingress, self.egress, self.acls, self.routes,
            )
        )  # fmt: skip


def load(source: str | Path = "router") -> Network:
    """Read a declared network: the name of one that is shipped, or the path of a TOML file.

    Raises:
        UsageError: there is no such file, it is no TOML, or something in it makes no sense.
    """
    shipped = files("harness") / "networks" / f"{source}.toml"
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
    vpn = top.table("vpn")
    network = Network(
        name=top.text("name", _NAME),
        type=top.choice("type", ("router", "vpcrouter", "dhcpsrvr")),
        domain=top.text("domain"),
        dns=tuple(top.items("dns", IPv4Address)),
        egress_default=top.choice("egress_default", ("allow", "deny"), "allow"),
        nics=tuple(map(_nic, top.tables("nic"))),
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
        egress=tuple(map(_egress, top.tables("egress"))),
        acls=tuple(map(_acl, top.tables("acl"))),
        machines=tuple(map(_machine, top.tables("machine"))),
        outsiders=tuple(map(_outsider, top.tables("outsider"))),
        routes=tuple(
            Route(
                row.value("network", IPv4Network),
                row.value("gateway", IPv4Address),
                row.value("address", IPv4Address),
            )
            for row in top.tables("route")
        ),
        vpn=_vpn(vpn) if vpn else None,
    )
    top.finish()
    check(network)
    return network


def _nic(row: Table) -> Nic:
    return Nic(
        device=row.text("device", re.compile(r"eth\d{1,2}")),
        role=row.choice("role", ("guest", "control", "public", "tier", "private")),
        address=row.value("address", IPv4Interface),
        mac=row.text("mac", _MAC),
        gateway=row.value("gateway", IPv4Address) if row.has("gateway") else None,
    )


def _forward(row: Table) -> Forward:
    public_ports = row.value("public_ports", ports)
    forward = Forward(
        public=row.value("public", IPv4Address),
        public_ports=public_ports,
        private=row.value("private", IPv4Address),
        private_ports=row.value("private_ports", ports) if row.has("private_ports") else public_ports,
        protocol=row.choice("protocol", ("tcp", "udp"), "tcp"),
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
    )


def _ingress(row: Table) -> Ingress:
    return Ingress(
        public=row.value("public", IPv4Address),
        protocol=row.choice("protocol", ("tcp", "udp", "icmp", "all"), "tcp"),
        ports=row.value("ports", ports) if row.has("ports") else None,
        cidrs=tuple(row.items("cidrs", IPv4Network, ["0.0.0.0/0"])),
    )


def _egress(row: Table) -> Egress:
    return Egress(
        protocol=row.choice("protocol", ("tcp", "udp", "icmp", "all"), "all"),
        ports=row.value("ports", ports) if row.has("ports") else None,
        sources=tuple(row.items("sources", IPv4Network, ["0.0.0.0/0"])),
        destinations=tuple(row.items("destinations", IPv4Network, ["0.0.0.0/0"])),
    )


def _acl(row: Table) -> Acl:
    return Acl(
        device=row.text("device"),
        direction=row.choice("direction", ("ingress", "egress"), "ingress"),
        protocol=row.choice("protocol", ("tcp", "udp", "icmp", "all"), "tcp"),
        ports=row.value("ports", ports) if row.has("ports") else None,
        cidr=row.value("cidr", IPv4Network) if row.has("cidr") else IPv4Network("0.0.0.0/0"),
        allowed=row.flag("allowed", True),
    )


def _machine(row: Table) -> Machine:
    metadata = row.table("metadata")
    return Machine(
        name=row.text("name", _NAME),
        mac=row.text("mac", _MAC),
        address=row.value("address", IPv4Address),
        user_data=row.text("user_data", default=""),
        metadata=tuple(metadata.pairs()) if metadata else (),
    )


def _outsider(row: Table) -> Outsider:
    return Outsider(
        name=row.text("name", _NAME),
        mac=row.text("mac", _MAC),
        device=row.text("device"),
        address=row.value("address", IPv4Interface),
        gateway=row.value("gateway", IPv4Address) if row.has("gateway") else None,
    )


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


def ports(value: object) -> Ports:
    """Return a port or a range of ports, written ``22`` or ``"8000-8080"``.

    Raises:
        ValueError: it is neither.
    """
    first, _, last = str(value).partition("-")
    found = Ports(port(first), port(last or first))
    if found.first > found.last:
        raise ValueError(f"{value} ends before it begins")
    return found


def _member(value: object) -> Member:
    address, _, number = str(value).partition(":")
    return Member(ipaddress.IPv4Address(address), port(number))
