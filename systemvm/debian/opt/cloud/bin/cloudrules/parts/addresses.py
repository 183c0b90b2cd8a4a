"""Addresses of the guest, public and private-gateway interfaces, added and removed one by one."""

from __future__ import annotations

import socket
import struct
from typing import Dict, List

from .. import system
from ..errors import Failed
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


def wanted(topology: Topology, primary: bool) -> Dict[str, List[str]]:
    """Return the addresses of each interface as ``address/bits``, in order; a standby has no public ones."""
    publics = {public.device for public in topology.publics}
    found = {}
    for device, rows in topology.addresses.items():
        if device == topology.control:
            continue
        found[device] = [] if device in publics and not primary else [row["cidr"] for row in rows]
    return found


def shared(topology: Topology) -> List[str]:
    """Return the addresses that keepalived sets and removes."""
    if not topology.redundant:
        return []
    return [f"{guest.gateway}/{guest.bits}" for guest in topology.guests if guest.virtual]


def current() -> Dict[str, List[str]]:
    """Return the global IPv4 addresses of every Ethernet interface."""
    found: Dict[str, List[str]] = {}
    for line in system.run(["ip", "-oneline", "-4", "address", "show", "scope", "global"]).splitlines():
        words = line.split()
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
            f"address add {address} broadcast + dev {device}"
            for address in target[device]
            if address not in there
        ]
        lines += [
            f"address del {address} dev {device}"
            for address in there
            if address not in target[device] and address not in kept
        ]
    return lines


def check(state: State) -> None:
    """Refuse an address on an interface that is not plugged."""
    plugged = system.devices()
    missing = sorted(device for device in wanted(state.topology, state.primary) if device not in plugged)
    if missing:
        raise Failed(f"no interface {' '.join(missing)} is plugged (there are {' '.join(plugged)})")


def apply(state: State) -> None:
    """Add what is missing and remove what is too many, all with one call."""
    topology = state.topology
    target = wanted(topology, state.primary)
    for device in system.devices():
        if device != topology.control and topology.routes:
            target.setdefault(device, [])
    mtus: Dict[str, int] = {
        device: rows[0]["mtu"] for device, rows in topology.addresses.items() if rows and rows[0].get("mtu")
    }
    actual = current()
    lines = commands(target, actual, shared(topology), mtus)
    if any(not line.startswith("link") for line in lines) or any(
        device not in actual for device in target if target[device]
    ):
        # Without this, removing the first address of an interface takes the others of its network along.
        system.set_kernel({f"net/ipv4/conf/{device}/promote_secondaries": "1" for device in target})
        system.run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")
        _announce(target, actual)


def _announce(target: Dict[str, List[str]], actual: Dict[str, List[str]]) -> None:
    """Tell the neighbours of new addresses, for another machine may have had them a moment ago."""
    for device, addresses in target.items():
        new = [address.split("/")[0] for address in addresses if address not in actual.get(device, [])]
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
