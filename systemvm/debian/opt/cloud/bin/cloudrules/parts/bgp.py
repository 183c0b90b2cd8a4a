"""BGP peers of routed networks, by frr."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

from .. import system
from ..errors import Refused
from ..state import State

KINDS = frozenset({"bgppeers"})
DAEMONS = Path("/etc/frr/daemons")
CONFIG = Path("/etc/frr/frr.conf")
UNIT = "frr.service"


def render(name: str, peers: Dict[str, Dict[str, Any]]) -> str:
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
        for row in own:
            for address in (row.get("ip4_address"), row.get("ip6_address")):
                if address:
                    lines.append(" neighbor {} remote-as {}".format(address, row["peer_as_number"]))
                    if row.get("peer_password"):
                        lines.append(" neighbor {} password {}".format(address, row["peer_password"]))
        for family, key in (("ipv4", "guest_ip4_cidr"), ("ipv6", "guest_ip6_cidr")):
            networks = sorted({row[key] for row in own if row.get(key)})
            if networks:
                lines.append(f" address-family {family} unicast")
                lines += [f"  network {network}" for network in networks]
                lines.append(" exit-address-family")
        lines.append("exit")
    return "\n".join(lines) + "\n"


def check(state: State) -> None:
    """Refuse peers on a template without frr."""
    if state.bag("bgppeers") and not system.installed("vtysh"):
        raise Refused("bgppeers: frr is not installed in this template")


def apply(state: State) -> None:
    """Write the configuration and reload frr when it differs."""
    peers = state.bag("bgppeers")
    if not peers and not CONFIG.exists():
        return
    changed = system.write_text(
        DAEMONS, "zebra=yes\nbgpd={}\nvtysh_enable=yes\n".format("yes" if peers else "no")
    )
    changed = (
        system.write_text(CONFIG, render(state.topology.config.get("name", "router"), peers), 0o640)
        or changed
    )
    if changed and not state.booting:
        system.unit("restart", UNIT)
