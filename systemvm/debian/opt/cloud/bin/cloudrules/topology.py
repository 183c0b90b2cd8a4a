"""Interfaces and networks of the system VM, read out of the databags."""

from __future__ import annotations

import ipaddress
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .errors import Failed
from .merge import control_device
from .store import Bags

# What the names of a tier end with when management names no domain.
UNNAMED_DOMAIN = "cloudnine.internal"


class GuestNetwork(NamedTuple):
    """A network whose VMs this router serves: addresses are dotted, ``cidr`` is the network.

    The fields that end with 6 say the same of IPv6 and are empty in a network without it; ``address6`` has no prefix
    length. ``alias`` marks a further subnet of a shared network.
    """

    device: str
    address: str
    bits: int
    cidr: str
    gateway: str
    dns: Tuple[str, ...]
    domain: str
    mtu: Optional[int]
    is_gateway: bool
    address6: str = ""
    cidr6: str = ""
    gateway6: str = ""
    dns6: Tuple[str, ...] = ()
    alias: bool = False

    @property
    def prefix6(self) -> str:
        """The prefix length of the IPv6 network."""
        return self.cidr6.partition("/")[2]

    @property
    def virtual(self) -> bool:
        """True when the gateway is an address that a redundant pair shares."""
        return self.gateway != self.address

    @property
    def server(self) -> str:
        """The address that VMs find DNS and metadata at: the gateway where this VM is it, else its own."""
        return self.gateway if self.is_gateway else self.address


class PublicDevice(NamedTuple):
    """An interface towards the outside, with its addresses; the source NAT address comes first."""

    device: str
    rows: Tuple[Dict[str, Any], ...]
    private_gateway: bool

    @property
    def number(self) -> int:
        """Place of the interface: the 2 of eth2."""
        return int(self.device[3:])

    @property
    def table(self) -> int:
        """Number of its routing table and, in decimal, of its packet mark."""
        return 100 + self.number

    @property
    def source_nat(self) -> Optional[str]:
        """The address that outgoing packets get."""
        return next((row["public_ip"] for row in self.rows if row["source_nat"]), None)

    @property
    def gateway(self) -> Optional[str]:
        """The next router of this interface."""
        return next((row["gateway"] for row in self.rows if row.get("gateway")), None)

    @property
    def addresses(self) -> Tuple[str, ...]:
        """Every address, without netmask."""
        return tuple(row["public_ip"] for row in self.rows)


class Topology(NamedTuple):
    """The VM, as far as the rules need to know it."""

    type: str
    config: Dict[str, str]
    control: str
    control_address: str
    guests: Tuple[GuestNetwork, ...]
    publics: Tuple[PublicDevice, ...]
    addresses: Dict[str, Tuple[Dict[str, Any], ...]]
    outside6: Tuple[str, ...] = ()
    gateway6: str = ""

    @property
    def routed(self) -> bool:
        """True when the guests have addresses of their own outside, so that nothing is translated."""
        return self.config.get("is_routed") == "true"

    @property
    def own_dns_only(self) -> bool:
        """True when guests are told of no resolver but this VM."""
        return self.config.get("userouteripresolver") == "true"

    @property
    def is_vpc(self) -> bool:
        """True for the router of a VPC."""
        return self.type == "vpcrouter"

    @property
    def routes(self) -> bool:
        """True when this VM forwards packets."""
        return self.type in ("router", "vpcrouter")

    @property
    def serves_guests(self) -> bool:
        """True when VMs get addresses, names and metadata from this VM."""
        return self.type in ("router", "vpcrouter", "dhcpsrvr")

    def gives_addresses6(self, guest: GuestNetwork) -> bool:
        """Return whether the machines of a network ask for IPv6 addresses; a router lets them make their own."""
        return bool(guest.cidr6) and not self.routes

    @property
    def redundant(self) -> bool:
        """True for one of a redundant pair."""
        return self.config.get("redundant_router", "false") not in ("false", "0")

    def public_of(self, address: str) -> Optional[PublicDevice]:
        """Return the public interface that has an address, or else the one whose network holds it."""
        for public in self.publics:
            if address in public.addresses:
                return public
        for public in self.publics:
            if any(_contains(row["network"], address) for row in public.rows):
                return public
        return self.publics[0] if self.publics else None

    def guest_of(self, address: str) -> Optional[GuestNetwork]:
        """Return the guest network that an address of either family belongs to."""
        for guest in self.guests:
            if any(_contains(cidr, address) for cidr in (guest.cidr, guest.cidr6) if cidr):
                return guest
        return None

    def device_of_address(self, address: str) -> str:
        """Return the interface whose network holds an address, or an empty text."""
        for device, rows in sorted(self.addresses.items()):
            if any(_contains(row["network"], address) for row in rows):
                return device
        return ""


def _contains(network: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def read(bags: Bags) -> Topology:
    """Read the topology.

    Raises:
        Failed: the command line was never merged, so the type of the VM is unknown.
    """
    config = bags.get("cmdline", {}).get("config")
    if not config:
        raise Failed("the databag cmdline.json is missing: the VM did not finish its boot")
    control = control_device(config)
    ips = {key: tuple(rows) for key, rows in bags.get("ips", {}).items() if key != "id"}
    tiers = {key: rows for key, rows in bags.get("guestnetwork", {}).items() if key != "id"}
    addresses = dict(ips)
    addresses.update({device: tuple(rows) for device, rows in tiers.items()})
    publics = [
        PublicDevice(device, rows, bool(rows[0].get("is_private_gateway")))
        for device, rows in sorted(ips.items())
        if rows and rows[0]["nw_type"] == "public" and device not in tiers
    ]
    guests = [_tier(rows[0], config) for _device, rows in sorted(tiers.items())] or _first_guests(ips, config)
    rows6 = [rows[0] for _device, rows in sorted(tiers.items()) if rows[0].get("router_ip6")]
    return Topology(
        type=config["type"],
        config=config,
        control=control,
        control_address=config.get(control + "ip", ""),
        guests=tuple(guests),
        publics=tuple(publics),
        addresses=addresses,
        outside6=_outside6(rows6, config),
        gateway6=next((row["router_ip6_gateway"] for row in rows6 if row.get("router_ip6_gateway")), "")
        or config.get("ip6gateway", ""),
    )


def _outside6(rows6: List[Dict[str, Any]], config: Dict[str, str]) -> Tuple[str, ...]:
    """Return the public IPv6 addresses with their prefix lengths: one for each tier, or the one of the command line."""
    found = []
    for row in rows6:
        network = row.get("router_guest_ip6_cidr") or row.get("router_ip6_cidr") or "/64"
        found.append("{}/{}".format(row["router_ip6"], network.partition("/")[2]))
    if config["type"] == "router" and config.get("eth2ip6"):
        found.append("{}/{}".format(config["eth2ip6"], config.get("eth2ip6prelen", "64")))
    return tuple(sorted(set(found)))


def _dns(config: Dict[str, str]) -> List[str]:
    return [config[key] for key in ("dns1", "dns2") if config.get(key)]


def _first_guests(ips: Dict[str, Tuple[Dict[str, Any], ...]], config: Dict[str, str]) -> List[GuestNetwork]:
    """Return the guest network that the command line describes, and its further subnets."""
    for device, rows in sorted(ips.items()):
        own = [row for row in rows if row["nw_type"] == "guest" and not row.get("alias")]
        if own:
            first = _first_guest(device, own[0], config)
            return [first, *(_alias(row, first) for row in rows if row.get("alias"))]
    return []


def _first_guest(device: str, row: Dict[str, Any], config: Dict[str, str]) -> GuestNetwork:
    is_gateway = config["type"] == "router"
    gateway = config.get("guestgw") or row["public_ip"]
    if not is_gateway:
        gateway = config.get("gateway") or row["public_ip"]
    mtu = config.get("privateMtu", "")
    address6 = config.get(device + "ip6", "")
    prefix6 = config.get("guestcidr6size") or config.get(device + "ip6prelen", "64")
    return GuestNetwork(
        device=device,
        address=row["public_ip"],
        bits=int(row["size"]),
        cidr=row["network"],
        gateway=gateway,
        dns=tuple(_dns(config)),
        domain=config.get("domain", ""),
        mtu=int(mtu) if mtu.isdigit() else None,
        is_gateway=is_gateway,
        address6=address6,
        cidr6=str(ipaddress.ip_network(f"{address6}/{prefix6}", strict=False)) if address6 else "",
        gateway6=config.get("guestgw6") or address6,
        dns6=tuple(config[key] for key in ("ip6dns1", "ip6dns2") if config.get(key)),
    )


def _alias(row: Dict[str, Any], first: GuestNetwork) -> GuestNetwork:
    """Return a further subnet of a shared network; which gateway its VMs have, their entries say."""
    address = row["public_ip"]
    return first._replace(
        address=address,
        bits=int(row["size"]),
        cidr=row["network"],
        gateway=address,
        is_gateway=False,
        address6="",
        cidr6="",
        gateway6="",
        alias=True,
    )


def _tier(row: Dict[str, Any], config: Dict[str, str]) -> GuestNetwork:
    """Return a guest network that was plugged in after the boot."""
    dns = [word for word in row.get("dns", "").split(",") if word]
    own = row["public_ip"]
    return GuestNetwork(
        device=row["device"],
        address=own,
        bits=int(row["size"]),
        cidr=row["network"],
        gateway=row.get("router_guest_gateway") or own,
        dns=tuple(dns or _dns(config)),
        domain=row.get("domain_name") or config.get("domain", "") or UNNAMED_DOMAIN,
        mtu=row.get("mtu"),
        is_gateway=row.get("is_vr_guest_gateway", True),
        address6=row.get("router_guest_ip6", ""),
        cidr6=row.get("router_guest_ip6_cidr", ""),
        gateway6=row.get("router_guest_ip6_gateway", ""),
        dns6=tuple(word for word in row.get("dns6", "").split(",") if word),
    )
