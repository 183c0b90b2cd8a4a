"""The declared network as frozen values; :mod:`harness.network.declaration` reads them from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Literal, TypeAlias

from bundle import catalogue
from bundle.errors import UsageError
from bundle.vm_types import VmType

RuleProtocol: TypeAlias = Literal["tcp", "udp", "icmp", "all"]
AnyNetwork: TypeAlias = IPv4Network | IPv6Network
# "private" is the gateway of a VPC to another private network.
NicRole: TypeAlias = Literal["guest", "control", "public", "tier", "private"]


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
    """A network card of the VM, in the order of CloudStack's contract.

    Attributes:
        device: its name in the guest; the order of the NICs is the order of the names.
        gateway: the way out of its network where that is not the VM itself.
        address6: its IPv6 address, for one that has any.
        gateway6: and its way out by IPv6.
    """

    device: str
    role: NicRole
    address: IPv4Interface
    mac: str
    gateway: IPv4Address | None = None
    address6: IPv6Interface | None = None
    gateway6: IPv6Address | None = None

    @property
    def number(self) -> int:
        """The number in its name."""
        return int(self.device.removeprefix("eth"))

    @property
    def network_id(self) -> int:
        """The server's number of the network behind it."""
        return 200 + self.number


@dataclass(frozen=True)
class PublicAddress:
    """A public address on a public NIC."""

    address: IPv4Address
    source_nat: bool = False


@dataclass(frozen=True)
class PortForward:
    """A port forward; ``sources`` narrows it in a VPC, empty is everybody."""

    public: IPv4Address
    public_ports: PortRange
    private: IPv4Address
    private_ports: PortRange
    protocol: RuleProtocol
    sources: tuple[IPv4Network, ...] = ()


@dataclass(frozen=True)
class StaticNat:
    """A public address that belongs to one machine."""

    public: IPv4Address
    private: IPv4Address


@dataclass(frozen=True)
class LoadBalancerMember:
    """A server behind a load balancer."""

    address: IPv4Address
    port: int


@dataclass(frozen=True)
class LoadBalancer:
    """A load-balancer rule; ``sources`` are those who may use it, empty is everybody."""

    public: IPv4Address
    port: int
    members: tuple[LoadBalancerMember, ...]
    algorithm: Literal["roundrobin", "leastconn", "source"]
    sources: tuple[IPv4Network, ...] = ()


@dataclass(frozen=True)
class Ingress:
    """A firewall rule that lets traffic in: to a public address, or where there is no NAT, to the machines."""

    public: IPv4Address | None
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
class Firewall6:
    """A rule of an isolated network's IPv6 firewall; empty sources or destinations are all."""

    direction: Literal["ingress", "egress"]
    protocol: RuleProtocol
    ports: PortRange | None
    sources: tuple[IPv6Network, ...]
    destinations: tuple[IPv6Network, ...]


@dataclass(frozen=True)
class Acl:
    """One line of a tier's access list; no ``cidrs`` are all addresses."""

    device: str
    direction: Literal["ingress", "egress"]
    protocol: RuleProtocol
    ports: PortRange | None
    cidrs: tuple[AnyNetwork, ...]
    allowed: bool

    def names(self, address: IPv4Address | IPv6Address) -> bool:
        """Say whether the line is about an address of the other side."""
        return not self.cidrs or any(address in cidr for cidr in self.cidrs)


@dataclass(frozen=True)
class DeclaredMachine:
    """A tenant: its DHCP and DNS entry, its user data and metadata."""

    name: str
    mac: str
    address: IPv4Address
    user_data: str
    metadata: tuple[tuple[str, str], ...]
    address6: IPv6Address | None = None


@dataclass(frozen=True)
class Outsider:
    """A host on a public or private network, with a fixed address: a witness of what comes out of the router.

    Attributes:
        address6: its IPv6 address; machines are reached by IPv6 through the router.
    """

    name: str
    mac: str
    device: str
    address: IPv4Interface
    gateway: IPv4Address | None
    address6: IPv6Interface | None = None


@dataclass(frozen=True)
class Route:
    """A static route of a VPC; ``address`` is the router's own on a private gateway, None for any other next hop."""

    network: IPv4Network
    gateway: IPv4Address
    address: IPv4Address | None

    @property
    def target(self) -> IPv4Address:
        """An address that the route leads to."""
        return self.network[min(1, self.network.num_addresses - 1)]


@dataclass(frozen=True)
class Vpn:
    """A remote-access VPN with its users."""

    public: IPv4Address
    pool: str
    preshared_key: str
    users: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SiteToSite:
    """A connection of a VPC to another site.

    Attributes:
        public: the VPC's own end.
        peer: the far end.
        networks: what is behind it.
        preshared_key: of both.
        policy: of IKE and ESP, such as ``aes128-sha1;modp1536``.
        passive: whether the far end has to begin.
    """

    public: IPv4Address
    peer: IPv4Address
    networks: tuple[IPv4Network, ...]
    preshared_key: str
    policy: str
    passive: bool


@dataclass(frozen=True)
class BgpPeer:
    """A router that is told of the networks behind this one; ``hops`` is the distance where it is no neighbour."""

    address: IPv4Address
    as_number: int
    password: str
    hops: int | None


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
    """A declared network around one router.

    Attributes:
        cidr: of a whole VPC; where it is not said, what its tiers cover.
        routed: whether machines keep their own addresses outside: there is no source NAT.
        dns6: name servers by IPv6.
        aliases: the VM's addresses in further subnets of a shared network.
        as_number: of the networks behind a router that speaks BGP.
    """

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
    cidr: IPv4Network | None = None
    routed: bool = False
    dns6: tuple[IPv6Address, ...] = ()
    aliases: tuple[IPv4Interface, ...] = ()
    firewall6: tuple[Firewall6, ...] = ()
    site_to_site: tuple[SiteToSite, ...] = ()
    as_number: int | None = None
    bgp_peers: tuple[BgpPeer, ...] = ()

    @cached_property
    def kind(self) -> VmType:
        """The catalogue's row of the VM's type.

        Raises:
            UsageError: the catalogue has no such type.
        """
        return catalogue.vm_type(self.type)

    @cached_property
    def control(self) -> DeclaredNic:
        """The NIC that management reaches the VM on."""
        return next(nic for nic in self.nics if nic.role == "control")

    @cached_property
    def public(self) -> DeclaredNic | None:
        """The first public NIC."""
        return next((nic for nic in self.nics if nic.role == "public"), None)

    @cached_property
    def publics(self) -> tuple[DeclaredNic, ...]:
        """All public NICs."""
        return tuple(nic for nic in self.nics if nic.role == "public")

    def public_of(self, address: IPv4Address) -> DeclaredNic:
        """Return the public NIC whose network a public address lies in.

        Raises:
            UsageError: in none.
        """
        for nic in self.publics:
            if address in nic.address.network:
                return nic
        raise UsageError(f"network {self.name!r}: {address} lies in the network of no public NIC")

    @cached_property
    def source_nat(self) -> IPv4Address | None:
        """The address that machines without one of their own have outside."""
        return next((row.address for row in self.public_addresses if row.source_nat), None)

    @cached_property
    def all_inside(self) -> IPv4Network:
        """The network that all machines lie in: the guest network, or the whole VPC."""
        if self.cidr is not None:
            return self.cidr
        whole = self.inside[0].address.network
        while not all(nic.address.network.subnet_of(whole) for nic in self.inside):
            whole = whole.supernet()
        return whole

    @cached_property
    def inside(self) -> tuple[DeclaredNic, ...]:
        """The NICs that tenants are behind: the guest NIC, or the tiers of a VPC."""
        return tuple(nic for nic in self.nics if nic.role in {"guest", "tier"})

    @property
    def is_vpc(self) -> bool:
        """True if access lists decide, instead of a firewall for each public address."""
        return self.kind.serves == "vpc"

    @property
    def serves_machines(self) -> bool:
        """True if it gives machines their addresses, names and user data; an internal load balancer does not."""
        return "machines" in self.kind.has

    @property
    def is_balancer(self) -> bool:
        """True if it is a load balancer and nothing else."""
        return self.kind.family == "balancer"

    @property
    def is_shared(self) -> bool:
        """True if it serves machines that go out by another router."""
        return self.serves_machines and "rules" not in self.kind.has

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
        if any(address in alias.network for alias in self.aliases):
            return self.inside[0]
        raise UsageError(f"network {self.name!r}: {address} lies in no guest network or tier")

    def subnet_of(self, address: IPv4Address) -> IPv4Interface:
        """Return the VM's address in the subnet of a machine, with that subnet."""
        return next(
            (alias for alias in self.aliases if address in alias.network), self.inside_of(address).address
        )

    def way_out_of(self, address: IPv4Address) -> IPv4Address:
        """Return the gateway of a machine: the VM itself, unless its NIC names another router of that network."""
        alias = next((alias for alias in self.aliases if address in alias.network), None)
        return alias.ip if alias else self.inside_of(address).gateway or self.gateway_of(address)

    def gateway_of(self, address: IPv4Address) -> IPv4Address:
        """Return the VM's address on the network of a machine: its name server, and mostly its gateway."""
        return self.redundant.gateway if self.redundant else self.subnet_of(address).ip

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
        """The number of rules that a re-application sends."""
        users = len(self.vpn.users) + 1 if self.vpn else 0
        tiers = {nic.device for nic in self.inside}
        listed = [acl for acl in self.acls if acl.device in tiers]
        return users + sum(
            len(rows)
            for rows in (
                self.public_addresses, self.forwards, self.static_nats, self.load_balancers,
                self.ingress, self.egress, listed, self.bgp_peers,
            )
        )  # fmt: skip
