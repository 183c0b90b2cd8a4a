"""The IPv6 packet filter: closed, apart from what the IPv6 firewall of a guest network allows."""

from __future__ import annotations

from typing import Any, Dict, Iterator

from ..ruleset import ESTABLISHED, RuleSet, port_match
from ..store import Bags
from ..topology import Topology


def render(topology: Topology, bags: Bags) -> str:
    """Return the whole IPv6 packet filter as text for ip6tables-restore."""
    rules = RuleSet()
    rules.policy("filter", "INPUT", "DROP")
    rules.policy("filter", "FORWARD", "DROP")
    rules.add("filter", "INPUT", "-i lo -j ACCEPT")
    rules.add("filter", "INPUT", ESTABLISHED + " -j ACCEPT")
    rules.add("filter", "INPUT", "-p ipv6-icmp -j ACCEPT")
    if topology.routes:
        bag = bags.get("ipv6firewallrules", {})
        _forward(rules, topology, [bag[key] for key in sorted((key for key in bag if key != "id"), key=int)])
    return rules.render()


def _forward(rules: RuleSet, topology: Topology, found: Any) -> None:
    rules.add("filter", "FORWARD", ESTABLISHED + " -j ACCEPT")
    rules.chain("filter", "FW_INGRESS")
    rules.chain("filter", "FW_EGRESS")
    for guest in topology.guests:
        for public in topology.publics:
            rules.add("filter", "FORWARD", f"-i {public.device} -o {guest.device} -j FW_INGRESS")
            rules.add("filter", "FORWARD", f"-i {guest.device} -o {public.device} -j FW_EGRESS")
    for rule in found:
        egress = rule["traffic_type"] == "egress"
        verdict = "DROP" if egress and rule.get("default_egress_policy") else "ACCEPT"
        for match in _matches(rule):
            rules.add("filter", "FW_EGRESS" if egress else "FW_INGRESS", f"{match} -j {verdict}".strip())


def _matches(rule: Dict[str, Any]) -> Iterator[str]:
    protocol = rule["protocol"]
    what = {"icmp": "-p ipv6-icmp", "all": ""}.get(protocol, f"-p {protocol}")
    if protocol in ("tcp", "udp") and "src_port_range" in rule:
        what = port_match(protocol, "{}:{}".format(*rule["src_port_range"]))
    elif protocol == "icmp" and rule.get("icmp_type", -1) != -1:
        what += " -m icmp6 --icmpv6-type {}".format(rule["icmp_type"])
    for source in rule.get("source_cidr_list") or ["::/0"]:
        for destination in rule.get("dest_cidr_list") or ["::/0"]:
            yield f"-s {source} -d {destination} {what}".strip()
