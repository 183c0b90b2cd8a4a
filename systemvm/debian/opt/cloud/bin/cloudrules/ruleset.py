"""A whole packet filter as text for iptables-restore."""

from __future__ import annotations

from typing import Dict, List, Tuple

TABLES = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}
ESTABLISHED = "-m state --state RELATED,ESTABLISHED"
NEW = "-m state --state NEW"


class RuleSet:
    """Chains and rules, in the order in which they were added."""

    def __init__(self) -> None:
        self._policies = {(table, chain): "ACCEPT" for table, chains in TABLES.items() for chain in chains}
        self._rules: Dict[Tuple[str, str], List[str]] = {key: [] for key in self._policies}

    def policy(self, table: str, chain: str, verdict: str) -> None:
        """Set what happens to a packet that no rule of a built-in chain decides."""
        self._policies[table, chain] = verdict

    def chain(self, table: str, chain: str) -> None:
        """Make a chain of one's own, unless it is there."""
        self._policies.setdefault((table, chain), "-")
        self._rules.setdefault((table, chain), [])

    def has_chain(self, table: str, chain: str) -> bool:
        """Return whether a chain was made."""
        return (table, chain) in self._policies

    def add(self, table: str, chain: str, rule: str) -> None:
        """Append a rule."""
        self._rules[table, chain].append(rule)

    def front(self, table: str, chain: str, rule: str) -> None:
        """Put a rule before the others of a chain."""
        self._rules[table, chain].insert(0, rule)

    def render(self) -> str:
        """Return the text for iptables-restore; a rule given twice stands once, at its first place."""
        lines = []
        for table in TABLES:
            lines.append("*" + table)
            chains = [key for key in self._policies if key[0] == table]
            lines += [f":{chain} {self._policies[table, chain]} [0:0]" for _table, chain in chains]
            for key in chains:
                lines += [f"-A {key[1]} {rule}" for rule in dict.fromkeys(self._rules[key])]
            lines.append("COMMIT")
        return "\n".join(lines) + "\n"


def port_match(protocol: str, ports: str) -> str:
    """Return the match of a protocol and a destination port range written ``first:last``."""
    first, _, last = ports.partition(":")
    wanted = first if first == last else f"{first}:{last}"
    return f"-p {protocol} -m {protocol} --dport {wanted}"


def icmp_match(kind: int, code: int) -> str:
    """Return the match of an ICMP type and code; -1 stands for any."""
    if kind == -1:
        return "-p icmp"
    if code == -1:
        return f"-p icmp -m icmp --icmp-type {kind}"
    return f"-p icmp -m icmp --icmp-type {kind}/{code}"
