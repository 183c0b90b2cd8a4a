"""Interfaces and networks of the system VM, read out of the databags."""

from __future__ import annotations

import ipaddress
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .errors import Failed
from .merge import control_device
from .store import Bags


class GuestNetwork(NamedTuple):
    """A network whose VMs this router serves: addresses are dotted, ``cidr`` is the network."""

    device: str
    address: str
    bits: int
    cidr: str
    gateway: str
    dns: Tuple[str, ...]
    domain: str
    mtu: Optional[int]
    is_gateway: bool

    @property
    def virtual(self) -> bool:
        """Whether the gateway is an address that a redundant pair shares."""
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
    """What the rules need to know of the VM."""

    type: str
    config: Dict[str, str]
    control: str
    control_address: str
    guests: Tuple[GuestNetwork, ...]
    publics: Tuple[PublicDevice, ...]
    addresses: Dict[str, Tuple[Dict[str, Any], ...]]

    @property
    def is_vpc(self) -> bool:
        """Whether this is the router of a VPC."""
        return self.type == "vpcrouter"

    @property
    def routes(self) -> bool:
        """Whether this VM forwards packets."""
        return self.type in ("router", "vpcrouter")

    @property
    def serves_guests(self) -> bool:
        """Whether VMs get addresses, names and metadata from this VM."""
        return self.type in ("router", "vpcrouter", "dhcpsrvr")

    @property
    def redundant(self) -> bool:
        """Whether this VM is one of a redundant pair."""
        return bool(self.config.get("redundant_router"))

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
        """Return the guest network that an address belongs to."""
        return next((guest for guest in self.guests if _contains(guest.cidr, address)), None)


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
    return Topology(
        type=config["type"],
        config=config,
        control=control,
        control_address=config.get(control + "ip", ""),
        guests=tuple(_tier(rows[0], config) for _device, rows in sorted(tiers.items()))
        or _first_guest(ips, config),
        publics=tuple(publics),
        addresses=addresses,
    )


def _dns(config: Dict[str, str]) -> List[str]:
    return [config[key] for key in ("dns1", "dns2") if config.get(key)]


def _first_guest(
    ips: Dict[str, Tuple[Dict[str, Any], ...]], config: Dict[str, str]
) -> Tuple[GuestNetwork, ...]:
    """Return the guest network that the command line describes."""
    for device, rows in sorted(ips.items()):
        own = [row for row in rows if row["nw_type"] == "guest" and not row.get("alias")]
        if not own:
            continue
        row = own[0]
        is_gateway = config["type"] == "router"
        gateway = config.get("guestgw") or row["public_ip"]
        if not is_gateway:
            gateway = config.get("gateway") or row["public_ip"]
        mtu = config.get("privateMtu", "")
        return (
            GuestNetwork(
                device=device,
                address=row["public_ip"],
                bits=int(row["size"]),
                cidr=row["network"],
                gateway=gateway,
                dns=tuple(_dns(config)),
                domain=config.get("domain", ""),
                mtu=int(mtu) if mtu.isdigit() else None,
                is_gateway=is_gateway,
            ),
        )
    return ()


def _tier(row: Dict[str, Any], config: Dict[str, str]) -> GuestNetwork:
    """Return a guest network that was plugged in after the boot."""
    dns = [word for word in row.get("dns", "").split(",") if word]
    return GuestNetwork(
        device=row["device"],
        address=row["public_ip"],
        bits=int(row["size"]),
        cidr=row["network"],
        gateway=row.get("router_guest_gateway") or row["public_ip"],
        dns=tuple(dns or _dns(config)),
        domain=row.get("domain_name") or config.get("domain", ""),
        mtu=row.get("mtu"),
        is_gateway=row.get("is_vr_guest_gateway", True),
    )
