"""A redundant pair: keepalived decides who is primary, conntrackd keeps the other informed of the flows.

Proof: keepalived runs.
"""

from __future__ import annotations

from pathlib import Path

from .. import system
from ..errors import Failed
from ..state import State
from ..topology import Topology

KINDS = frozenset({"guestnetwork", "ips"})
KEEPALIVED = Path("/etc/keepalived/keepalived.conf")
CONNTRACKD = Path("/etc/conntrackd/conntrackd.conf")
# What a server calls the one that begins: the latter word up to 4.15.2.
_FIRST_WORDS = ("PRIMARY", "MASTER")
_ROLE = "/opt/cloud/bin/redundant.py"


def render_keepalived(topology: Topology) -> str:
    """Return the configuration of keepalived: the gateways of all guest networks move together."""
    config = topology.config
    lines = [
        "# Made by the rules of the virtual router.",
        "global_defs {",
        "    router_id {}".format(config.get("name", "router")),
        "    script_user root",
        "    enable_script_security",
        "}",
    ]
    virtual = [guest for guest in topology.guests if guest.virtual]
    if not virtual:
        return "\n".join(lines) + "\n"
    lines += [
        "vrrp_instance inside_network {",
        # Both start as backup and do not take the role back: a router that returns must not cause a second failover.
        "    state BACKUP",
        "    nopreempt",
        f"    interface {virtual[0].device}",
        "    virtual_router_id {}".format(int(config.get("router_id", "51")) % 255 or 51),
        "    priority {}".format(100 if config.get("redundant_state") in _FIRST_WORDS else 90),
        "    advert_int {}".format(config.get("advert_int", "1")),
        "    authentication {",
        "        auth_type PASS",
        "        auth_pass {}".format(config.get("router_password", "WORD")[:8]),
        "    }",
        "    virtual_ipaddress {",
    ]
    for guest in virtual:
        broadcast = topology.addresses[guest.device][0]["broadcast"]
        lines.append(f"        {guest.gateway}/{guest.bits} brd {broadcast} dev {guest.device}")
    lines.append("    }")
    lines += [f'    notify_{word} "{_ROLE} {role}"' for word, role in _NOTIFICATIONS]
    lines.append("}")
    return "\n".join(lines) + "\n"


_NOTIFICATIONS = (("master", "primary"), ("backup", "backup"), ("fault", "fault"), ("stop", "fault"))


def render_conntrackd(topology: Topology) -> str:
    """Return the configuration of conntrackd: flows are multicast on the first guest network."""
    guest = topology.guests[0]
    local = ["127.0.0.1", topology.control_address]
    local += [row["public_ip"] for rows in topology.addresses.values() for row in rows]
    lines = [
        "# Made by the rules of the virtual router.",
        "Sync {",
        "    Mode FTFW {",
        "        DisableExternalCache Off",
        "    }",
        "    Multicast {",
        "        IPv4_address 225.0.0.50",
        "        Group 3780",
        f"        IPv4_interface {guest.address}",
        f"        Interface {guest.device}",
        "        Checksum on",
        "    }",
        "}",
        "General {",
        "    HashSize 32768",
        "    HashLimit 131072",
        "    LogFile off",
        "    Syslog on",
        "    LockFile /var/lock/conntrack.lock",
        "    UNIX {",
        "        Path /var/run/conntrackd.ctl",
        "    }",
        "    NetlinkBufferSize 2097152",
        "    NetlinkBufferSizeMaxGrowth 8388608",
        "    Filter From Userspace {",
        "        Protocol Accept {",
        "            TCP",
        "        }",
        "        Address Ignore {",
    ]
    lines += [f"            IPv4_address {address}" for address in sorted(set(local))]
    lines += ["        }", "    }", "}"]
    return "\n".join(lines) + "\n"


def check(_state: State) -> None:
    """Nothing to check: both configurations follow from checked values alone."""


def apply(state: State) -> None:
    """Write the configurations; the running daemons read them again."""
    topology = state.topology
    if not topology.redundant or not topology.routes:
        return
    changed = system.write_text(KEEPALIVED, render_keepalived(topology))
    if changed and not state.booting and system.unit_active("keepalived.service"):
        system.unit("reload", "keepalived.service")
    # keepalived is in enabled_svcs, so the boot starts it; conntrackd is not, so the rules do.
    if topology.guests and system.installed("conntrackd"):
        if system.write_text(CONNTRACKD, render_conntrackd(topology)):
            system.unit("restart", "conntrackd.service")
        elif not system.unit_active("conntrackd.service"):
            system.unit("start", "conntrackd.service")


def prove(state: State) -> None:
    """Refuse to say that a pair is in force while keepalived does not run.

    When everything is applied again, keepalived itself may be what is stopping.
    """
    if state.everything:
        return
    if state.topology.redundant and state.topology.routes and not system.unit_active("keepalived.service"):
        raise Failed("keepalived does not run")
