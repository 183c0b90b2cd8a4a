"""The IPv6 packet filter: closed, apart from what the firewall of a guest network or the list of a tier allows."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List

from ..ruleset import ESTABLISHED, NEW, RuleSet, port_match
from ..store import Bag, Bags
from ..topology import Topology
from . import bgp
from .vpc import members, transport_match


def render(topology: Topology, bags: Bags) -> str:
    """Return the whole IPv6 packet filter as text for ip6tables-restore."""
    rules = RuleSet()
    rules.policy("filter", "INPUT", "DROP")
    rules.policy("filter", "FORWARD", "DROP")
    rules.add("filter", "INPUT", "-i lo -j ACCEPT")
    rules.add("filter", "INPUT", ESTABLISHED + " -j ACCEPT")
    rules.add("filter", "INPUT", "-p ipv6-icmp -j ACCEPT")
    for guest in topology.guests if topology.serves_guests else ():
        if topology.gives_addresses6(guest):
            asks = f"-i {guest.device} -s fe80::/10 -p udp -m udp --dport 547"
            rules.add("filter", "INPUT", f"{asks} -j ACCEPT")
    if topology.routes:
        bgp.add6(rules, bags)
    if topology.is_vpc:
        _tiers(rules, topology, bags.get("networkacl", {}))
    elif topology.routes:
        bag = bags.get("ipv6firewallrules", {})
        _forward(rules, topology, [bag[key] for key in sorted((key for key in bag if key != "id"), key=int)])
    return rules.render()


def _tiers(rules: RuleSet, topology: Topology, acls: Bag) -> None:
    """Add the lists of the tiers; what no rule of theirs names is dropped, both ways."""
    rules.add("filter", "FORWARD", ESTABLISHED + " -j ACCEPT")
    tiers = [guest for guest in topology.guests if guest.cidr6]
    for guest in tiers:
        acl = acls.get(guest.device, {})
        inbound, outbound = "ACL_INBOUND_" + guest.device, "ACL_OUTBOUND_" + guest.device
        _list(rules, "filter", inbound, acl.get("ingress_rules", []), "-s")
        _list(rules, "mangle", outbound, acl.get("egress_rules", []), "-d")
        rules.add("filter", "FORWARD", f"-d {guest.cidr6} -o {guest.device} -j {inbound}")
        own = f"! -d {guest.gateway6}/128 " if guest.gateway6 else ""
        rules.add("mangle", "PREROUTING", f"-s {guest.cidr6} {own}-i {guest.device} {NEW} -j {outbound}")
    for guest in tiers:
        rules.add("filter", "FORWARD", f"-s {guest.cidr6} -i {guest.device} -j ACCEPT")


def _list(rules: RuleSet, table: str, chain: str, found: List[Dict[str, Any]], side: str) -> None:
    """Make a chain of a list; what no rule of it names is dropped."""
    rules.chain(table, chain)
    for rule in found:
        for cidr in members(rule, 6):
            verdict = "ACCEPT" if rule["allowed"] else "DROP"
            rules.add(table, chain, f"{side} {cidr} {_acl_match(rule)}".strip() + f" -j {verdict}")
    rules.add(table, chain, "-j DROP")


def _acl_match(rule: Dict[str, Any]) -> str:
    kind = rule["type"]
    if kind in ("tcp", "udp"):
        return transport_match(rule)
    if kind == "icmp":
        return _icmp_match(rule)
    return "-p {}".format(rule.get("protocol", 0)) if kind == "protocol" else ""


def _icmp_match(rule: Dict[str, Any]) -> str:
    kind, code = rule.get("icmp_type", -1), rule.get("icmp_code", -1)
    if kind == -1:
        return "-p ipv6-icmp"
    return f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind}" + (f"/{code}" if code != -1 else "")


def _forward(rules: RuleSet, topology: Topology, found: List[Dict[str, Any]]) -> None:
    """Add the firewall of a guest network: what may come in, and what departs from the policy for what leaves."""
    rules.add("filter", "FORWARD", ESTABLISHED + " -j ACCEPT")
    rules.chain("filter", "FW_INGRESS")
    rules.chain("filter", "FW_EGRESS")
    for guest in topology.guests:
        for public in topology.publics:
            rules.add("filter", "FORWARD", f"-i {public.device} -o {guest.device} -j FW_INGRESS")
            rules.add("filter", "FORWARD", f"-i {guest.device} -o {public.device} -j FW_EGRESS")
    defaults = [rule for rule in found if rule["id"] == 0]
    for rule in (rule for rule in found if rule["id"] != 0):
        egress = rule["traffic_type"] == "egress"
        verdict = "DROP" if egress and rule.get("default_egress_policy") else "ACCEPT"
        for match in _matches(rule):
            rules.add("filter", "FW_EGRESS" if egress else "FW_INGRESS", f"{match} -j {verdict}")
    for rule in defaults:
        verdict = "ACCEPT" if rule.get("default_egress_policy") else "DROP"
        rules.add("filter", "FW_EGRESS", "-s {} -j {}".format(rule.get("guest_ip6_cidr", "::/0"), verdict))


def _matches(rule: Dict[str, Any]) -> Iterator[str]:
    """Give one match for each pair of source and destination; the side of the guests is their network at most."""
    protocol, guests = rule["protocol"], rule.get("guest_ip6_cidr", "::/0")
    what = {"icmp": _icmp_match(rule), "all": ""}.get(protocol, f"-p {protocol}")
    if protocol in ("tcp", "udp") and "src_port_range" in rule:
        what = port_match(protocol, "{}:{}".format(*rule["src_port_range"]))
    egress = rule["traffic_type"] == "egress"
    for source in rule.get("source_cidr_list") or [guests if egress else "::/0"]:
        for destination in rule.get("dest_cidr_list") or ["::/0" if egress else guests]:
            yield f"-s {source} -d {destination} {what}".strip()
