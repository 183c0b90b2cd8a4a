"""Routes: the default route, a routing table for each public interface, and static routes.

Every route made here carries a protocol number of its own, so that the kernel itself remembers which ones are ours.

Proof: ip(8) ends with an error when the kernel does not take a route, and a static route that leads nowhere is refused.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import List, Set

from .. import system
from ..errors import Refused
from ..netfilter.base import mark
from ..state import State
from ..topology import Topology

KINDS = frozenset({"ips", "guestnetwork", "staticroutes", "staticnatrules"})
PROTOCOL = "77"
OWN_TABLES = range(100, 164)
_DEFAULT6 = Path("/run/cloud/default6")


def wanted(state: State) -> List[str]:
    """Return the routes in the words of ``ip route show``, without the protocol."""
    topology = state.topology
    if not topology.routes or not state.primary:
        return []
    lines = []
    default = _default(topology)
    if default:
        lines.append(default)
    for public in topology.publics:
        if public.private_gateway or not public.gateway:
            continue
        lines.append(f"default via {public.gateway} dev {public.device} table {public.table}")
        # What is connected directly is looked up in the main table.
        for net in sorted(_connected(topology)):
            lines.append(f"throw {net} table {public.table}")
    for network, row in sorted(state.bag("staticroutes").items()):
        device = topology.device_of_address(row["gateway"])
        if device:
            lines.append("{} via {} dev {}".format(network.replace("/32", ""), row["gateway"], device))
    return lines


def _default(topology: Topology) -> str:
    for public in topology.publics:
        if public.gateway and not public.private_gateway and public.source_nat:
            return f"default via {public.gateway} dev {public.device}"
    if topology.config.get("has_public_network") == "false":
        return _through_a_tier(topology)
    return ""


def _through_a_tier(topology: Topology) -> str:
    """Return the default route of a VPC router that is not its gateway: through the tier of the lowest number."""
    rows = [topology.addresses[guest.device][0] for guest in topology.guests]
    found = [row for row in rows if "network_id" in row and row.get("router_guest_gateway")]
    if not found:
        return ""
    row = min(found, key=lambda candidate: int(candidate["network_id"]))
    if row["router_guest_gateway"] == row["public_ip"]:
        return ""
    return "default via {} dev {}".format(row["router_guest_gateway"], row["device"])


def _connected(topology: Topology) -> Set[str]:
    networks = {row["network"] for rows in topology.addresses.values() for row in rows}
    mask = topology.config.get(topology.control + "mask", "255.255.0.0")
    if topology.control_address:
        networks.add(str(ipaddress.IPv4Network(f"{topology.control_address}/{mask}", strict=False)))
    return networks


def rules(topology: Topology) -> List[str]:
    """Return the policy rules: a marked packet uses the table of its interface."""
    return [
        f"fwmark {mark(public)} lookup {public.table}"
        for public in topology.publics
        if topology.routes and public.gateway and not public.private_gateway
    ]


def _current_routes() -> List[str]:
    lines = system.run(["ip", "-4", "route", "show", "table", "all", "proto", PROTOCOL]).split("\n")
    return [_plain(line) for line in lines if line.strip()]


def _plain(line: str) -> str:
    """Return a route as ``wanted`` writes it: without the words that the kernel adds."""
    words = [word for word in line.split() if word not in ("linkdown", "onlink")]
    for noise in ("scope", "metric"):
        if noise in words:
            place = words.index(noise)
            del words[place : place + 2]
    if "table" in words:  # at the end
        place = words.index("table")
        words = words[:place] + words[place + 2 :] + words[place : place + 2]
    return " ".join(words)


def _current_rules() -> Set[str]:
    found = set()
    for line in system.run(["ip", "-4", "rule", "show"]).split("\n"):
        text = " ".join(line.split()).partition("from all ")[2]
        words = text.split()
        if words[:1] == ["fwmark"] and words[-1].isdigit() and int(words[-1]) in OWN_TABLES:
            found.add(text)
    return found


def check(state: State) -> None:
    """Refuse a new static route whose gateway is on no network of this VM."""
    for message in state.of("staticroutes"):
        for row in message["routes"]:
            if not row["revoke"] and not state.topology.device_of_address(row["gateway"]):
                gateway, network = row["gateway"], row["network"]
                raise Refused(
                    f"staticroutes: {gateway}, the gateway to {network}, is on no network of this VM"
                )


def apply(state: State) -> None:
    """Replace what is missing, then remove what is too many, with one call of ip(8) if there is anything to do."""
    plugged = system.devices()
    target = [route for route in wanted(state) if _device(route) in ("", *plugged)]
    actual = _current_routes()
    lines = [f"route replace {route} proto {PROTOCOL}" for route in target if route not in actual]
    keys = {_key(route) for route in target}
    lines += [f"route del {route} proto {PROTOCOL}" for route in actual if _key(route) not in keys]
    policy, there = set(rules(state.topology)) if state.primary else set(), _current_rules()
    lines += [f"rule add {rule}" for rule in sorted(policy - there)]
    lines += [f"rule del {rule}" for rule in sorted(there - policy)]
    if lines:
        system.run(["ip", "-4", "-batch", "-"], stdin="\n".join(lines) + "\n")
    _apply_default6(state)


def _apply_default6(state: State) -> None:
    """Set or remove the default route of IPv6; a VM that never had one is not asked for it."""
    topology = state.topology
    wanted6 = bool(topology.gateway6 and topology.outside6 and topology.publics and state.primary)
    if wanted6:
        device = topology.publics[0].device
        route = f"default via {topology.gateway6} dev {device} proto {PROTOCOL}"
        system.run(["ip", "-6", "route", "replace", *route.split()])
        system.write_text(_DEFAULT6, route + "\n")
    elif _DEFAULT6.exists():
        _DEFAULT6.unlink()
        system.run(["ip", "-6", "route", "flush", "default", "proto", PROTOCOL])


def prove(_state: State) -> None:
    """The kernel took every route, or ip(8) would have failed."""


def _device(route: str) -> str:
    words = route.split()
    return words[words.index("dev") + 1] if "dev" in words else ""


def _key(route: str) -> str:
    """Return what a replacement goes by: type, destination and table."""
    words = route.split()
    destination = " ".join(words[:2]) if words[0] == "throw" else words[0]
    return destination + (" " + " ".join(words[-2:]) if "table" in words else "")
