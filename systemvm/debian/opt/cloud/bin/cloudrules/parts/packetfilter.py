"""The packet filter: rendered as a whole, put into the kernel in one step."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Dict

from .. import netfilter, system
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
    }
)
_FOLDER = Path("/etc/iptables")
_APPLIED = Path("/run/cloud")
_COUNTER = re.compile(r"^\[(\d+:\d+)\] (-A NETWORK_STATS\S* .*)$", re.MULTILINE)
_NOISE = re.compile(r"^#.*\n|^\[\d+:\d+\] |(?<= )\[\d+:\d+\]$", re.MULTILINE)


def check(state: State) -> None:
    """Let iptables-restore read rules that it has not read before, without putting them into the kernel."""
    _test("iptables", netfilter.render(state.topology, state.bags), _FOLDER / "rules.v4")
    if _has_ipv6():
        _test("ip6tables", ipv6.render(state.topology, state.bags), _FOLDER / "rules.v6")


def apply(state: State) -> None:
    """Put the rules into the kernel and beside them into the files that the boot restores."""
    _converge("iptables", netfilter.render(state.topology, state.bags), _FOLDER / "rules.v4")
    if _has_ipv6():
        _converge("ip6tables", ipv6.render(state.topology, state.bags), _FOLDER / "rules.v6")


def _test(program: str, text: str, path: Path) -> None:
    if system.read_text(path) != text:
        system.run([program + "-restore", "--test"], stdin=text)


def _has_ipv6() -> bool:
    return Path("/proc/sys/net/ipv6").exists() and system.installed("ip6tables-restore")


def _converge(program: str, text: str, path: Path) -> None:
    """Replace the rules unless the kernel has exactly what was made of this text before.

    Comparing with what the kernel returned right after the last time finds changes by hand, too. The counters of the
    accounting chains are carried over.
    """
    kernel = system.run([program + "-save", "-c"])
    mark = _APPLIED / (program + ".applied")
    if system.read_text(mark) != _fingerprint(text, kernel):
        system.log(f"{program}: replacing the rules")
        system.run([program + "-restore", "--counters"], stdin=with_counters(text, kernel))
        system.write_text(mark, _fingerprint(text, system.run([program + "-save", "-c"])))
    system.write_text(path, text)


def with_counters(text: str, saved: str) -> str:
    """Give the accounting rules of a new rule set the counters that they have in a saved one."""
    counters: Dict[str, str] = {rule.strip(): counter for counter, rule in _COUNTER.findall(saved)}
    return "".join(
        f"[{counters[line.strip()]}] {line}" if line.strip() in counters else line
        for line in text.splitlines(keepends=True)
    )


def _fingerprint(text: str, kernel: str) -> str:
    digest = hashlib.sha256()
    digest.update(text.encode("utf-8"))
    digest.update(b"\0")
    digest.update(_NOISE.sub("", kernel).encode("utf-8"))
    return digest.hexdigest()
