"""Addresses of the guest, public and private-gateway interfaces, added and removed one by one.

Proof: ip(8) ends with an error when the kernel does not take an address, and an IPv4 address is in force at once; IPv6
addresses are set without the wait for duplicates.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Dict, List, Set

from .. import system
from ..errors import Refused
from ..state import State
from ..topology import Topology

KINDS = frozenset(
    {
        "ips",
        "ipaliases",
        "guestnetwork",
        "networkacl",
        "firewallrules",
        "forwardrules",
        "staticnatrules",
        "loadbalancer",
        "staticroutes",
        "site2sitevpn",
        "remoteaccessvpn",
    }
)

IPV6 = Path("/proc/sys/net/ipv6")


def wanted(topology: Topology, primary: bool) -> Dict[str, List[str]]:
    """Return the addresses of each interface as ``address/bits``, in order; a standby has no public ones."""
    publics = {public.device for public in topology.publics}
    found = {}
    for device, rows in topology.addresses.items():
        if device == topology.control:
            continue
        found[device] = [] if device in publics and not primary else [row["cidr"] for row in rows]
    for guest in topology.guests:
        if guest.address6:
            found[guest.device].append(f"{guest.address6}/{guest.prefix6}")
    if topology.publics and primary:
        found[topology.publics[0].device] += topology.outside6
    return found


def shared(topology: Topology) -> List[str]:
    """Return the addresses that keepalived sets and removes."""
    if not topology.redundant:
        return []
    return [f"{guest.gateway}/{guest.bits}" for guest in topology.guests if guest.virtual]


def current() -> Dict[str, List[str]]:
    """Return the global addresses of every Ethernet interface, but not those that it gave itself."""
    found: Dict[str, List[str]] = {}
    for line in system.run(["ip", "-oneline", "address", "show", "scope", "global"]).split("\n"):
        words = line.split()
        if len(words) > 3 and "dynamic" not in words:
            found.setdefault(words[1], []).append(words[3])
    return found


def commands(
    target: Dict[str, List[str]], actual: Dict[str, List[str]], kept: List[str], mtus: Dict[str, int]
) -> List[str]:
    """Return what ip(8) has to do: nothing for an address that is there, so that none flaps."""
    lines = []
    for device in sorted(target):
        there = actual.get(device, [])
        if target[device]:
            if device in mtus:
                lines.append(f"link set dev {device} mtu {mtus[device]}")
            lines.append(f"link set dev {device} up")
        lines += [
            f"address add {address} {'nodad' if ':' in address else 'broadcast +'} dev {device}"
            for address in target[device]
            if address not in there
        ]
        lines += [
            f"address del {address} dev {device}"
            for address in there
            if address not in target[device] and address not in kept
        ]
    return lines


def _named(state: State) -> Set[str]:
    """Return the interfaces that the messages speak of; those of the command line are its own alone."""
    addresses = {
        row["public_ip"] for message in state.of("ips") for row in message["ip_address"] if row["add"]
    }
    addresses |= {message["router_guest_ip"] for message in state.of("guestnetwork") if message["add"]}
    rows = [row for found in state.topology.addresses.values() for row in found]
    named = {row["device"] for row in rows if row["public_ip"] in addresses}
    if state.everything:
        named |= {row["device"] for row in rows if state.topology.config.get(row["device"] + "ip")}
    return named


def check(state: State) -> None:
    """Refuse an address on an interface that is not plugged.

    An older entry whose interface has gone is no reason to refuse what has nothing to do with it.
    """
    plugged = system.devices()
    target = wanted(state.topology, state.primary)
    missing = sorted(device for device in target if device not in plugged)
    refused = sorted(set(missing) & _named(state))
    if refused:
        raise Refused(f"no interface {' '.join(refused)} is plugged (there are {' '.join(plugged)})")
    if missing:
        system.log(f"no interface {' '.join(missing)} is plugged: its addresses wait")
    if any(":" in address for found in target.values() for address in found) and not IPV6.exists():
        raise Refused("an IPv6 address, but the kernel of this VM has no IPv6")


def apply(state: State) -> None:
    """Add what is missing and remove what is too many, all with one call."""
    topology = state.topology
    plugged = system.devices()
    target = {device: found for device, found in wanted(topology, state.primary).items() if device in plugged}
    for device in plugged:
        if device != topology.control and topology.routes:
            target.setdefault(device, [])
    mtus: Dict[str, int] = {
        device: rows[0]["mtu"] for device, rows in topology.addresses.items() if rows and rows[0].get("mtu")
    }
    _prepare_ipv6(topology, target)
    actual = current()
    lines = commands(target, actual, shared(topology), mtus)
    if any(not line.startswith("link") for line in lines) or any(
        device not in actual for device in target if target[device]
    ):
        # Without this, removing the first address of an interface takes the others of its network along.
        system.set_kernel({f"net/ipv4/conf/{device}/promote_secondaries": "1" for device in target})
        system.run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")
        _announce(target, actual)


def _prepare_ipv6(topology: Topology, target: Dict[str, List[str]]) -> None:
    """Let the kernel forward IPv6, and take addresses on the interfaces that have one."""
    having = [device for device, found in target.items() if any(":" in address for address in found)]
    system.set_kernel({f"net/ipv6/conf/{device}/disable_ipv6": "0" for device in having})
    if having and topology.routes:
        system.set_kernel({"net/ipv6/conf/all/forwarding": "1"})


def prove(_state: State) -> None:
    """The kernel took every address, or ip(8) would have failed."""


def _announce(target: Dict[str, List[str]], actual: Dict[str, List[str]]) -> None:
    """Tell the neighbours of new addresses, for another machine may have had them a moment ago."""
    for device, addresses in target.items():
        new = [
            address.split("/")[0]
            for address in addresses
            if ":" not in address and address not in actual.get(device, [])
        ]
        if new:
            _send(device, [announcement(system.mac_of(device), address) for address in new])


def announcement(mac: bytes, address: str) -> bytes:
    """Return the Ethernet frame of a gratuitous ARP request: who has the address, and that it is this interface."""
    number = socket.inet_aton(address)
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac + number + bytes(6) + number
    return b"\xff" * 6 + mac + b"\x08\x06" + body


def _send(device: str, frames: List[bytes]) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        try:
            sender.bind((device, 0))
            for frame in frames:
                sender.send(frame)
        except OSError as error:
            # An interface without a carrier has no neighbours to tell.
            system.log(f"the addresses of {device} were not announced: {error.strerror}")
