"""The declared network as frozen values; :mod:`harness.network.declaration` reads them from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Literal, TypeAlias

from bundle import catalogue
from bundle.errors import UsageError
from bundle.vm_types import VmType

RuleProtocol: TypeAlias = Literal["tcp", "udp", "icmp", "all"]
# "private" is the gateway of a VPC to another private network.
Role: TypeAlias = Literal["guest", "control", "public", "tier", "private"]


@dataclass(frozen=True)
class PortRange:
    """A range of ports, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        """Return the range as databags write it: ``22:22``."""
        return f"{self.first}:{self.last}"


@dataclass(frozen=True)
class DeclaredNic:
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
class PortForward:
    """A port forward."""

    public: IPv4Address
    public_ports: PortRange
    private: IPv4Address
    private_ports: PortRange
    protocol: RuleProtocol


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
    protocol: RuleProtocol
    ports: PortRange | None
    cidrs: tuple[IPv4Network, ...]


@dataclass(frozen=True)
class Egress:
    """A firewall rule for what leaves the guest network."""

    protocol: RuleProtocol
    ports: PortRange | None
    sources: tuple[IPv4Network, ...]
    destinations: tuple[IPv4Network, ...]


@dataclass(frozen=True)
class Acl:
    """One line of a tier's access list."""

    device: str
    direction: Literal["ingress", "egress"]
    protocol: RuleProtocol
    ports: PortRange | None
    cidr: IPv4Network
    allowed: bool


@dataclass(frozen=True)
class DeclaredMachine:
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
class Redundant:
    """A second router for the same network; what differs from the first one.

    Attributes:
        gateway: the inside address that the primary has, whichever router that is.
        interval: seconds between two signs of life.
        guest: the second router's own guest NIC.
        control: and its own control NIC; the public one is the same for both.
    """

    gateway: IPv4Address
    interval: int
    guest: DeclaredNic
    control: DeclaredNic


@dataclass(frozen=True)
class Network:
    """A declared network around one router."""

    name: str
    type: str
    domain: str
    dns: tuple[IPv4Address, ...]
    egress_default: Literal["allow", "deny"]
    nics: tuple[DeclaredNic, ...]
    public_addresses: tuple[PublicAddress, ...] = ()
    forwards: tuple[PortForward, ...] = ()
    static_nats: tuple[StaticNat, ...] = ()
    load_balancers: tuple[LoadBalancer, ...] = ()
    ingress: tuple[Ingress, ...] = ()
    egress: tuple[Egress, ...] = ()
    acls: tuple[Acl, ...] = ()
    machines: tuple[DeclaredMachine, ...] = ()
    outsiders: tuple[Outsider, ...] = ()
    routes: tuple[Route, ...] = ()
    vpn: Vpn | None = None
    redundant: Redundant | None = None

    @cached_property
    def control(self) -> DeclaredNic:
        """The NIC that management reaches the VM on."""
        return next(nic for nic in self.nics if nic.role == "control")

    @cached_property
    def public(self) -> DeclaredNic | None:
        """The first public NIC."""
        return next((nic for nic in self.nics if nic.role == "public"), None)

    @cached_property
    def inside(self) -> tuple[DeclaredNic, ...]:
        """The NICs that tenants are behind: the guest NIC, or the tiers of a VPC."""
        return tuple(nic for nic in self.nics if nic.role in {"guest", "tier"})

    @cached_property
    def kind(self) -> VmType:
        """What the catalogue says of the VM's type.

        Raises:
            UsageError: the catalogue has no such type.
        """
        return catalogue.vm_type(self.type)

    @property
    def is_vpc(self) -> bool:
        """Whether access lists decide, instead of a firewall for each public address."""
        return self.kind.serves == "vpc"

    @property
    def serves_machines(self) -> bool:
        """Whether it gives machines their addresses, names and user data; an internal load balancer does not."""
        return "machines" in self.kind.has

    def nic(self, device: str) -> DeclaredNic:
        """Return the NIC of that name."""
        return next(nic for nic in self.nics if nic.device == device)

    @cached_property
    def private(self) -> tuple[DeclaredNic, ...]:
        """The private gateways of a VPC."""
        return tuple(nic for nic in self.nics if nic.role == "private")

    def inside_of(self, address: IPv4Address) -> DeclaredNic:
        """Return the NIC whose network an inside address lies in."""
        for nic in self.inside:
            if address in nic.address.network:
                return nic
        raise UsageError(f"network {self.name!r}: {address} lies in no guest network or tier")

    def way_out_of(self, address: IPv4Address) -> IPv4Address:
        """Return the gateway of a machine: the VM itself, unless its NIC names another router of that network."""
        return self.inside_of(address).gateway or self.gateway_of(address)

    def gateway_of(self, address: IPv4Address) -> IPv4Address:
        """Return the VM's address on the network of a machine: its name server, and mostly its gateway."""
        nic = self.inside_of(address)
        return self.redundant.gateway if self.redundant else nic.address.ip

    def second_router(self) -> Network:
        """Return the same network as the second router of the pair sees it.

        Raises:
            UsageError: there is one router only.
        """
        pair = self.redundant
        if pair is None:
            raise UsageError(f"network {self.name!r} declares no redundant pair: [redundant] is missing")
        own = {"guest": pair.guest, "control": pair.control}
        return replace(self, nics=tuple(own.get(nic.role, nic) for nic in self.nics))

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
