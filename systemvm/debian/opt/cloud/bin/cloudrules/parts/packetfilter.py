"""The packet filter: rendered as a whole, put into the kernel in one step.

Proof: iptables-restore takes a rule set as a whole or ends with an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict

from .. import generation, netfilter, system
from ..errors import Refused
from ..netfilter import ipv6
from ..state import State

KINDS = frozenset(
    {
        "ips",
        "ipaliases",
        "guestnetwork",
        "networkacl",
        "firewallrules",
        "ipv6firewallrules",
        "forwardrules",
        "staticnatrules",
        "loadbalancer",
        "site2sitevpn",
        "remoteaccessvpn",
        "staticroutes",
        "bgppeers",
    }
)
_FOLDER = Path("/etc/iptables")
_GENERATION = Path("/run/cloud/packetfilter.generation")
_COUNTER = re.compile(r"^\[(\d+:\d+)\] (-A NETWORK_STATS\S* .*)$", re.MULTILINE)


def check(state: State) -> None:
    """Refuse a rule for a public address where there is no public interface to apply it to."""
    if state.topology.publics or not state.topology.routes:
        return
    for kind in ("forwardrules", "staticnatrules"):
        for message in state.of(kind):
            for rule in message["rules"]:
                if not rule["revoke"]:
                    raise Refused(f"{kind}: {rule['source_ip_address']} is on no interface of this VM")


def prove(_state: State) -> None:
    """The kernel has the rules, or iptables-restore would have failed."""


def apply(state: State) -> None:
    """Bring the rules into the kernel and into the files that the boot restores.

    A rule set is not loaded when it is the one loaded last and nothing has changed in the kernel since, by hand or
    otherwise: then its generation is the one that was written down.
    """
    texts = {"iptables": netfilter.render(state.topology, state.bags)}
    if Path("/proc/sys/net/ipv6").exists() and system.installed("ip6tables-restore"):
        texts["ip6tables"] = ipv6.render(state.topology, state.bags)
    now = generation.current()
    untouched = now is not None and system.read_text(_GENERATION) == f"{now}\n"
    for program, text in texts.items():
        path = _FOLDER / ("rules.v4" if program == "iptables" else "rules.v6")
        if not untouched or system.read_text(path) != text:
            _load(program, text)
            system.write_text(path, text)
    system.write_text(_GENERATION, f"{generation.current()}\n")


def _load(program: str, text: str) -> None:
    """Replace the rules in one step, keeping the counters of the accounting chains."""
    system.log(f"{program}: replacing the rules")
    saved = system.run([program + "-save", "-c"]) if "NETWORK_STATS" in text else ""
    system.run([program + "-restore", "--counters"], stdin=with_counters(text, saved))


def with_counters(text: str, saved: str) -> str:
    """Give the accounting rules of a new rule set the counters that they have in a saved one."""
    counters: Dict[str, str] = {rule.strip(): counter for counter, rule in _COUNTER.findall(saved)}
    return "".join(
        f"[{counters[line.strip()]}] {line}" if line.strip() in counters else line
        for line in text.splitlines(keepends=True)
    )
