"""Firewall of a router: what may come in on a public address, and what guests may send out."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List

from ..ruleset import ESTABLISHED, NEW, RuleSet, icmp_match, port_match
from ..store import Bag
from ..topology import Topology


def add(rules: RuleSet, topology: Topology, bag: Bag) -> None:
    """Add the chains FIREWALL_<address> and FW_EGRESS_RULES and the forwarding between the interfaces."""
    found = [bag[key] for key in sorted((key for key in bag if key != "id"), key=int)]
    incoming = [rule for rule in found if rule["traffic_type"] == "ingress"]
    _ingress(rules, topology, incoming)
    if topology.routed:
        _routed_ingress(rules, topology, incoming)
    _egress(rules, [rule for rule in found if rule["traffic_type"] == "egress"])
    _forward(rules, topology)


def _ingress(rules: RuleSet, topology: Topology, found: List[Dict[str, Any]]) -> None:
    for public in topology.publics:
        for address in public.addresses:
            vpn, chain = "VPN_" + address, "FIREWALL_" + address
            rules.chain("mangle", vpn)
            rules.chain("mangle", chain)
            rules.add("mangle", "PREROUTING", f"-d {address}/32 -j {vpn}")
            rules.add("mangle", "PREROUTING", f"-d {address}/32 -j {chain}")
            rules.add("mangle", vpn, ESTABLISHED + " -j ACCEPT")
            rules.add("mangle", vpn, "-j RETURN")
            rules.add("mangle", chain, ESTABLISHED + " -j RETURN")
            for rule in found:
                if rule.get("src_ip") == address:
                    for match in _matches(rule):
                        rules.add("mangle", chain, match + " -j RETURN")
            rules.add("mangle", chain, "-j DROP")


def _routed_ingress(rules: RuleSet, topology: Topology, found: List[Dict[str, Any]]) -> None:
    """Let in what is meant for the guests themselves: such a rule names no public address."""
    rules.chain("filter", "FW_ROUTED_INGRESS")
    rules.add("filter", "FW_ROUTED_INGRESS", ESTABLISHED + " -j ACCEPT")
    for rule in found:
        if not rule.get("src_ip"):
            for match in _matches(rule):
                rules.add("filter", "FW_ROUTED_INGRESS", match + " -j ACCEPT")
    rules.add("filter", "FW_ROUTED_INGRESS", "-j DROP")
    for guest in topology.guests:
        for public in topology.publics:
            rules.add(
                "filter",
                "FORWARD",
                f"-d {guest.cidr} -i {public.device} -o {guest.device} -j FW_ROUTED_INGRESS",
            )


def _egress(rules: RuleSet, found: List[Dict[str, Any]]) -> None:
    """Add what departs from the default policy, then the default."""
    rules.chain("filter", "FW_OUTBOUND")
    rules.chain("filter", "FW_EGRESS_RULES")
    rules.add("filter", "FW_OUTBOUND", ESTABLISHED + " -j ACCEPT")
    rules.add("filter", "FW_OUTBOUND", "-j FW_EGRESS_RULES")
    defaults = [rule for rule in found if _is_default(rule)]
    for rule in found:
        if not _is_default(rule):
            verdict = "DROP" if rule.get("default_egress_policy") else "ACCEPT"
            for match in _matches(rule):
                rules.add("filter", "FW_EGRESS_RULES", f"{match} -j {verdict}")
    for rule in defaults:
        rules.add(
            "filter", "FW_EGRESS_RULES", "-j " + ("ACCEPT" if rule.get("default_egress_policy") else "DROP")
        )


def _is_default(rule: Dict[str, Any]) -> bool:
    """Whether a rule is the default policy of the network: it has the number 0, or speaks of everything that leaves."""
    return rule["protocol"] == "all" and (rule["id"] == 0 or not rule.get("source_cidr_list"))


def _matches(rule: Dict[str, Any]) -> Iterator[str]:
    """Give one match for each pair of source and destination."""
    protocol = rule["protocol"]
    if protocol == "icmp":
        what = icmp_match(rule.get("icmp_type", -1), rule.get("icmp_code", -1))
    elif protocol == "all":
        what = ""
    elif "src_port_range" in rule:
        what = port_match(protocol, "{}:{}".format(*rule["src_port_range"]))
    else:
        what = "-p " + protocol
    for source in rule.get("source_cidr_list") or ["0.0.0.0/0"]:
        for destination in rule.get("dest_cidr_list") or [None]:
            words = ["-s " + source, "-d " + destination if destination else "", what]
            yield " ".join(word for word in words if word)


def _forward(rules: RuleSet, topology: Topology) -> None:
    for guest in topology.guests:
        for public in topology.publics:
            rules.add("filter", "FORWARD", f"-i {guest.device} -o {public.device} -j FW_OUTBOUND")
            rules.add(
                "filter",
                "FORWARD",
                f"-i {public.device} -o {guest.device} {ESTABLISHED} -j ACCEPT",
            )
        rules.add("filter", "FORWARD", f"-i {guest.device} -o {guest.device} {NEW} -j ACCEPT")
        rules.add("filter", "FORWARD", f"-i {guest.device} -o {guest.device} {ESTABLISHED} -j ACCEPT")
        rules.add(
            "filter",
            "FORWARD",
            f"-i {guest.device} -o {topology.control} {ESTABLISHED} -j ACCEPT",
        )
