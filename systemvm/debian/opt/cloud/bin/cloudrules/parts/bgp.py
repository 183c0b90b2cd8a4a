"""BGP peers of routed networks, by frr.

Proof: frr runs; whether a peer answers is the peer's affair.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

from .. import system
from ..errors import Failed, Refused
from ..state import State
from ..topology import Topology

KINDS = frozenset({"bgppeers"})
DAEMONS = Path("/etc/frr/daemons")
CONFIG = Path("/etc/frr/frr.conf")
UNIT = "frr.service"
_MULTI_HOP = "EBGP_MultiHop"


def router_id(topology: Topology) -> str:
    """Return what this router calls itself: the address that management names, else the first public one."""
    named = topology.config.get("source_nat_ip") or topology.config.get("eth2ip", "")
    return named or next((address for public in topology.publics for address in public.addresses), "")


def render(name: str, peers: Dict[str, Dict[str, Any]], own_id: str = "") -> str:
    """Return the configuration: one router block for each own AS number."""
    lines = [
        "! Made by the rules of the virtual router.",
        f"hostname {name}",
        "service integrated-vtysh-config",
    ]
    rows = [peers[key] for key in sorted(peers)]
    for number in sorted({row["network_as_number"] for row in rows if "network_as_number" in row}):
        own = [row for row in rows if row.get("network_as_number") == number]
        lines += [f"router bgp {number}", " no bgp ebgp-requires-policy"]
        if own_id:
            lines.append(f" bgp router-id {own_id}")
        # A peer of several guest networks comes once for each.
        lines += list(dict.fromkeys(line for row in own for line in _neighbours(row)))
        for family, key in (("ipv4", "guest_ip4_cidr"), ("ipv6", "guest_ip6_cidr")):
            networks = sorted({row[key] for row in own if row.get(key)})
            if networks:
                lines.append(f" address-family {family} unicast")
                lines += [f"  network {network}" for network in networks]
                if family == "ipv6":
                    lines += sorted(
                        {
                            "  neighbor {} activate".format(row["ip6_address"])
                            for row in own
                            if row.get("ip6_address")
                        }
                    )
                lines.append(" exit-address-family")
        lines.append("exit")
    return "\n".join(lines) + "\n"


def _neighbours(row: Dict[str, Any]) -> List[str]:
    lines = []
    hops = row.get("details", {}).get(_MULTI_HOP)
    for address in (row.get("ip4_address"), row.get("ip6_address")):
        if address:
            lines.append(" neighbor {} remote-as {}".format(address, row["peer_as_number"]))
            if row.get("peer_password"):
                lines.append(" neighbor {} password {}".format(address, row["peer_password"]))
            if hops:
                lines.append(f" neighbor {address} ebgp-multihop {hops}")
    return lines


def check(state: State) -> None:
    """Refuse peers on a template without frr."""
    if state.bag("bgppeers") and not system.installed("vtysh"):
        raise Refused("bgppeers: frr is not installed in this template")
    for row in state.bag("bgppeers").values():
        hops = row.get("details", {}).get(_MULTI_HOP, "1")
        if not hops.isdigit() or not 1 <= int(hops) <= 255:
            raise Refused(f"bgppeers: {_MULTI_HOP} is not a number of hops: {hops!r}")
        if " " in row.get("peer_password", ""):
            raise Refused("bgppeers: a password with a blank, which frr's configuration cannot hold")


def apply(state: State) -> None:
    """Write the configuration and reload frr when it differs."""
    peers = state.bag("bgppeers")
    if not peers and not CONFIG.exists():
        return
    changed = system.write_text(
        DAEMONS, "zebra=yes\nbgpd={}\nvtysh_enable=yes\n".format("yes" if peers else "no")
    )
    changed = (
        system.write_text(
            CONFIG,
            render(state.topology.config.get("name", "router"), peers, router_id(state.topology)),
            0o640,
        )
        or changed
    )
    if changed and not state.booting:
        system.unit("restart", UNIT)


def prove(state: State) -> None:
    """Refuse to say that peers are in force while frr does not run."""
    if state.bag("bgppeers") and not system.unit_active(UNIT):
        raise Failed("frr does not run")
