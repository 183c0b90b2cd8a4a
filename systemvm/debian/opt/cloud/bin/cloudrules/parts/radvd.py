"""Router advertisements, by which the machines of an IPv6 network give themselves addresses.

Proof: radvd runs. A template without it can still route IPv6 for machines that were given addresses otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import List

from .. import system
from ..errors import Failed
from ..state import State
from ..topology import GuestNetwork, Topology

KINDS = frozenset({"guestnetwork"})
CONFIG = Path("/etc/radvd.conf")
UNIT = "radvd.service"


def advertised(topology: Topology) -> List[GuestNetwork]:
    """Return the networks whose gateway for IPv6 this VM is."""
    return [
        guest
        for guest in topology.guests
        if guest.cidr6 and guest.address6 == (guest.gateway6 or guest.address6)
    ]


def render(topology: Topology) -> str:
    """Return the configuration: one block for each network."""
    lines = ["# Made by the rules of the virtual router."]
    for guest in advertised(topology):
        lines += [
            f"interface {guest.device}",
            "{",
            "    AdvSendAdvert on;",
            "    MinRtrAdvInterval 5;",
            "    MaxRtrAdvInterval 15;",
            f"    prefix {guest.cidr6}",
            "    {",
            "        AdvOnLink on;",
            "        AdvAutonomous on;",
            "    };",
        ]
        if guest.dns6:
            lines.append("    RDNSS {} {{ }};".format(" ".join(guest.dns6)))
        lines.append("};")
    return "\n".join(lines) + "\n"


def _concerned(state: State) -> bool:
    return state.topology.routes and system.installed("radvd")


def check(state: State) -> None:
    """Say when nothing is going to be advertised."""
    if advertised(state.topology) and not system.installed("radvd"):
        system.log("radvd is not installed in this template: IPv6 is routed, but not advertised")


def apply(state: State) -> None:
    """Write the configuration; start, reload or stop radvd."""
    if not _concerned(state):
        return
    wanted = bool(advertised(state.topology)) and state.primary
    if not wanted and not CONFIG.exists():
        return
    changed = system.write_text(CONFIG, render(state.topology))
    running = system.unit_active(UNIT)
    if wanted and not running:
        system.unit("start", UNIT)
    elif wanted and changed:
        system.unit("reload", UNIT)
    elif running and not wanted:
        system.unit("stop", UNIT)


def prove(state: State) -> None:
    """Refuse to say that a network is advertised while radvd does not run."""
    if _concerned(state) and advertised(state.topology) and state.primary and not system.unit_active(UNIT):
        raise Failed("radvd does not run")
