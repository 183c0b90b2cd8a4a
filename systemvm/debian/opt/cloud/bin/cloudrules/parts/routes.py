"""Routes: the default route, a routing table for each public interface, and static routes.

Every route made here carries a protocol number of its own, so that the kernel itself remembers which ones are ours.
"""

from __future__ import annotations

import ipaddress
from typing import List, Set

from .. import system
from ..netfilter.base import mark
from ..state import State
from ..topology import Topology

KINDS = frozenset({"ips", "guestnetwork", "staticroutes", "staticnatrules"})
PROTOCOL = "77"


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
        device = _device_towards(topology, row["gateway"])
        if device:
            lines.append("{} via {} dev {}".format(network.replace("/32", ""), row["gateway"], device))
    return lines


def _default(topology: Topology) -> str:
    for public in topology.publics:
        if public.gateway and not public.private_gateway and public.source_nat:
            return f"default via {public.gateway} dev {public.device}"
    return ""


def _connected(topology: Topology) -> Set[str]:
    networks = {row["network"] for rows in topology.addresses.values() for row in rows}
    mask = topology.config.get(topology.control + "mask", "255.255.0.0")
    if topology.control_address:
        networks.add(str(ipaddress.IPv4Network(f"{topology.control_address}/{mask}", strict=False)))
    return networks


def _device_towards(topology: Topology, gateway: str) -> str:
    for device, rows in sorted(topology.addresses.items()):
        if any(ipaddress.ip_address(gateway) in ipaddress.ip_network(row["network"]) for row in rows):
            return device
    return ""


def rules(topology: Topology) -> List[str]:
    """Return the policy rules: a marked packet uses the table of its interface."""
    return [
        f"fwmark {mark(public)} lookup {public.table}"
        for public in topology.publics
        if topology.routes and public.gateway and not public.private_gateway
    ]


def _current_routes() -> List[str]:
    lines = system.run(["ip", "-4", "route", "show", "table", "all", "proto", PROTOCOL]).splitlines()
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
    for line in system.run(["ip", "-4", "rule", "show"]).splitlines():
        text = " ".join(line.split()).partition("from all ")[2]
        if text.startswith("fwmark 0x6"):
            found.add(text)
    return found


def check(_state: State) -> None:
    """Nothing to check: the fields are checked, and the interfaces by ``addresses``."""


def apply(state: State) -> None:
    """Replace what is missing, then remove what is too many, with one call of ip(8) if there is anything to do."""
    target, actual = wanted(state), _current_routes()
    lines = [f"route replace {route} proto {PROTOCOL}" for route in target if route not in actual]
    keys = {_key(route) for route in target}
    lines += [f"route del {route} proto {PROTOCOL}" for route in actual if _key(route) not in keys]
    policy, there = set(rules(state.topology)) if state.primary else set(), _current_rules()
    lines += [f"rule add {rule}" for rule in sorted(policy - there)]
    lines += [f"rule del {rule}" for rule in sorted(there - policy)]
    if lines:
        system.run(["ip", "-4", "-batch", "-"], stdin="\n".join(lines) + "\n")


def _key(route: str) -> str:
    """Return what a replacement goes by: type, destination and table."""
    words = route.split()
    destination = " ".join(words[:2]) if words[0] == "throw" else words[0]
    return destination + (" " + " ".join(words[-2:]) if "table" in words else "")
