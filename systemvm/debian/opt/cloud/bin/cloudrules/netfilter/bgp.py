"""Openings for the neighbours in BGP.

Either end may begin a session. A router that lets nobody begin waits for its own next attempt, two minutes later, when
its neighbour was not there at the first one.
"""

from __future__ import annotations

from typing import List

from ..ruleset import RuleSet
from ..store import Bags
from ..topology import Topology

_SESSION = "-p tcp -m tcp --dport 179 -j ACCEPT"


def add(rules: RuleSet, topology: Topology, bags: Bags) -> None:
    """Let the neighbours in, past the firewalls of public addresses, and nobody else."""
    own = [address for public in topology.publics for address in public.addresses]
    for neighbour in _addresses(bags, "ip4_address"):
        rules.add("filter", "INPUT", f"-s {neighbour}/32 {_SESSION}")
        for address in own:
            if rules.has_chain("mangle", "VPN_" + address):
                rules.front("mangle", "VPN_" + address, f"-s {neighbour}/32 {_SESSION}")


def add6(rules: RuleSet, bags: Bags) -> None:
    """Let the neighbours with IPv6 addresses in."""
    for neighbour in _addresses(bags, "ip6_address"):
        rules.add("filter", "INPUT", f"-s {neighbour}/128 {_SESSION}")


def _addresses(bags: Bags, key: str) -> List[str]:
    """Return the neighbours' addresses; one of several guest networks comes once for each."""
    rows = [row for number, row in bags.get("bgppeers", {}).items() if number != "id"]
    return sorted({row[key] for row in rows if row.get(key)})
