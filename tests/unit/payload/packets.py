"""What a packet filter does with a packet, read from its text: a small iptables without a kernel.

It knows the matches and targets that the payload uses and refuses every other, so a new one is not passed over.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

_FLAGS = {
    "-i": "came_by", "-o": "leaves_by", "-s": "source", "-d": "destination", "-p": "protocol", "--dport": "port",
    "--state": "state", "--icmp-type": "icmp", "--icmpv6-type": "icmp", "--pol": "policy",
}  # fmt: skip
_PASSED_OVER = {"-m": 1, "--dir": 1}
_OPTIONS = ("--to-destination", "--to-source", "--set-xmark", "--nfmask", "--ctmask")
_SWITCHES = ("--restore-mark", "--save-mark", "--checksum-fill")


@dataclass(frozen=True)
class Packet:
    """A packet on its way; ``policy`` is ``ipsec`` for one that was decrypted."""

    source: str = "198.51.100.7"
    destination: str = ""
    protocol: str = "tcp"
    port: int = 0
    came_by: str = ""
    leaves_by: str = ""
    state: str = "NEW"
    icmp: str = ""
    policy: str = "none"
    mark: int = 0
    flow_mark: int = 0


@dataclass(frozen=True)
class Rule:
    """One rule: what it matches, its target and the target's options."""

    matches: tuple[tuple[str, str, bool], ...]
    target: str
    options: dict[str, str]


def _rule(words: list[str]) -> Rule:
    matches, options, target, negated = [], {}, "", False
    while words:
        word = words.pop(0)
        if word == "!":
            negated = True
            continue
        if word == "-j":
            target = words.pop(0)
        elif word in _FLAGS:
            matches.append((_FLAGS[word], words.pop(0), negated))
        elif word in _OPTIONS:
            options[word] = words.pop(0)
        elif word in _SWITCHES:
            options[word] = ""
        elif word in _PASSED_OVER:
            del words[: _PASSED_OVER[word]]
        else:
            raise ValueError(f"the word {word!r} of a rule is not known here")
        negated = False
    return Rule(tuple(matches), target, options)


def _is(field: str, value: str, wanted: str) -> bool:
    if field in ("source", "destination"):
        found, network = ipaddress.ip_address(value), ipaddress.ip_network(wanted)
        return found in network
    if field == "port":
        first, _, last = wanted.partition(":")
        return int(first) <= int(value) <= int(last or first)
    if field == "state":
        return value in wanted.split(",")
    if field == "icmp":
        return value == wanted or value.startswith(wanted + "/")
    return value.startswith(wanted[:-1]) if wanted.endswith("+") else value == wanted


class Filter:
    """A packet filter, from the text for iptables-restore."""

    def __init__(self, text: str) -> None:
        self._policies: dict[tuple[str, str], str] = {}
        self._rules: dict[tuple[str, str], list[Rule]] = {}
        table = ""
        for line in text.splitlines():
            words = line.split()
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith(":"):
                self._policies[table, words[0][1:]] = words[1]
                self._rules[table, words[0][1:]] = []
            elif line.startswith("-A"):
                self._rules[table, words[1]].append(_rule(words[2:]))

    def _walk(self, table: str, chain: str, packet: Packet) -> tuple[str, Packet]:
        """Return the verdict of a chain, empty when it has none, and what became of the packet."""
        for rule in self._rules.get((table, chain), []):
            if not all(_is(f, str(getattr(packet, f)), wanted) != no for f, wanted, no in rule.matches):
                continue
            if rule.target in ("ACCEPT", "DROP", "RETURN"):
                return ("" if rule.target == "RETURN" else rule.target), packet
            if (table, rule.target) in self._rules:
                verdict, packet = self._walk(table, rule.target, packet)
                if verdict:
                    return verdict, packet
            elif rule.target in ("DNAT", "SNAT"):
                return "ACCEPT", _translated(rule, packet)
            elif rule.target:
                packet = _marked(rule, packet)
        policy = self._policies.get((table, chain), "ACCEPT")
        return ("" if policy == "-" else policy), packet

    def _through(self, hooks: list[tuple[str, str]], packet: Packet) -> Packet | None:
        for table, chain in hooks:
            if table == "nat" and packet.state != "NEW":
                continue
            verdict, packet = self._walk(table, chain, packet)
            if verdict == "DROP":
                return None
        return packet

    def arrives(self, packet: Packet) -> Packet | None:
        """Return a packet as a program of the router gets it, or None: it was dropped."""
        hooks = [("mangle", "PREROUTING"), ("nat", "PREROUTING"), ("mangle", "INPUT"), ("filter", "INPUT")]
        return self._through(hooks, packet)

    def forwarded(self, packet: Packet, networks: dict[str, str]) -> Packet | None:
        """Return a packet as it leaves; ``networks`` says which interface leads to which network, the rest is ''."""
        found = self._through([("mangle", "PREROUTING"), ("nat", "PREROUTING")], packet)
        if found is None:
            return None
        target = ipaddress.ip_address(found.destination)
        ways = [
            device for net, device in networks.items() if net and target in ipaddress.ip_network(net)
        ] or [networks[""]]
        after = [
            ("mangle", "FORWARD"),
            ("filter", "FORWARD"),
            ("mangle", "POSTROUTING"),
            ("nat", "POSTROUTING"),
        ]
        return self._through(after, replace(found, leaves_by=ways[0]))

    def translated(self, packet: Packet) -> Packet | None:
        """Return a packet that leaves, with the address that it leaves with."""
        return self._through([("mangle", "POSTROUTING"), ("nat", "POSTROUTING")], packet)

    def sent(self, packet: Packet) -> Packet | None:
        """Return what becomes of a packet of the router itself before it is routed."""
        return self._through([("mangle", "OUTPUT"), ("nat", "OUTPUT"), ("filter", "OUTPUT")], packet)


def _translated(rule: Rule, packet: Packet) -> Packet:
    if rule.target == "SNAT":
        return replace(packet, source=rule.options["--to-source"])
    address, _, ports = rule.options["--to-destination"].partition(":")
    return replace(packet, destination=address, port=int(ports.split("-")[0]) if ports else packet.port)


def _marked(rule: Rule, packet: Packet) -> Packet:
    value = int(rule.options.get("--set-xmark", "0/0").split("/")[0], 16)
    if rule.target == "MARK":
        return replace(packet, mark=value)
    if rule.target == "CONNMARK" and "--set-xmark" in rule.options:
        return replace(packet, flow_mark=value)
    if rule.target == "CONNMARK":
        restores = "--restore-mark" in rule.options
        return replace(packet, mark=packet.flow_mark) if restores else replace(packet, flow_mark=packet.mark)
    if rule.target == "CHECKSUM":
        return packet
    raise ValueError(f"the target {rule.target} is not known here")
