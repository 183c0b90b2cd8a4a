"""Packet filter of a VPC router: one access list for each tier and private gateway."""

from __future__ import annotations

from typing import Any, Dict, List

from ..ruleset import ESTABLISHED, NEW, RuleSet, icmp_match, port_match
from ..store import Bag
from ..topology import Topology
from .base import CONNTRACK_GROUP, VRRP_GROUP


def add(rules: RuleSet, topology: Topology, acls: Bag) -> None:
    """Add forwarding between tiers, public network and private gateways.

    A tier's ingress list filters what is forwarded into it, its egress list (in mangle) what its VMs send through the
    router. What no ingress rule names is dropped, so a tier without a list lets nobody in. What no egress rule names
    passes, as CloudStack has it; where the router translates nothing, it is dropped.
    """
    rules.add("filter", "FORWARD", ESTABLISHED + " -j ACCEPT")
    for guest in topology.guests:
        acl = acls.get(guest.device, {})
        inbound, outbound = "ACL_INBOUND_" + guest.device, "ACL_OUTBOUND_" + guest.device
        _list(rules, "filter", inbound, acl.get("ingress_rules", []), "-s")
        rules.add("filter", inbound, "-j DROP")
        rules.add("filter", "FORWARD", f"-d {guest.cidr} -o {guest.device} -j {inbound}")
        rules.chain("mangle", outbound)
        for group in (VRRP_GROUP, CONNTRACK_GROUP):
            rules.add("mangle", outbound, f"-d {group} -j ACCEPT")
        _outbound(rules, topology, outbound, acl)
        rules.add(
            "mangle",
            "PREROUTING",
            f"-s {guest.cidr} ! -d {guest.gateway}/32 -i {guest.device} {NEW} -j {outbound}",
        )
    _private_gateways(rules, topology, acls)
    for guest in topology.guests:
        rules.add("filter", "FORWARD", f"-s {guest.cidr} -i {guest.device} -j ACCEPT")


def _private_gateways(rules: RuleSet, topology: Topology, acls: Bag) -> None:
    """The lists of a private gateway speak from its own view, as those of a tier: ingress is what is sent out to it."""
    for public in topology.publics:
        if not public.private_gateway:
            continue
        acl = acls.get(public.device, {})
        inbound, outbound = "ACL_INBOUND_" + public.device, "ACL_OUTBOUND_" + public.device
        _list(rules, "mangle", inbound, acl.get("ingress_rules", []), "-s")
        rules.add("mangle", inbound, "-j DROP")
        _outbound(rules, topology, outbound, acl)
        rules.add("mangle", "FORWARD", f"-o {public.device} {NEW} -j {inbound}")
        rules.add("mangle", "FORWARD", f"-i {public.device} {NEW} -j {outbound}")


def _outbound(rules: RuleSet, topology: Topology, chain: str, acl: Dict[str, Any]) -> None:
    """Make a chain of an egress list."""
    _list(rules, "mangle", chain, acl.get("egress_rules", []), "-d")
    if topology.routed:
        rules.add("mangle", chain, "-j DROP")


def _list(rules: RuleSet, table: str, chain: str, found: List[Dict[str, Any]], side: str) -> None:
    """Make a chain of the rules in their order; one without an IPv4 network is a matter of IPv6 alone."""
    rules.chain(table, chain)
    for rule in found:
        verdict = "ACCEPT" if rule["allowed"] else "DROP"
        for cidr in members(rule, 4):
            rules.add(table, chain, f"{side} {cidr} {_match(rule)}".strip() + f" -j {verdict}")


def members(rule: Dict[str, Any], family: int) -> List[str]:
    """Return the networks of an access-list rule that are of a family, 4 or 6."""
    return [cidr for cidr in rule["cidr"].split(",") if cidr and (":" in cidr) == (family == 6)]


def transport_match(rule: Dict[str, Any]) -> str:
    """Return the match of TCP or UDP; the ports 0 to 0 are how management spells every port."""
    kind, first = rule["type"], rule.get("first_port", 0)
    last = rule.get("last_port", first)
    if (first, last) == (0, 0):
        return f"-p {kind} -m {kind}"
    return port_match(kind, f"{first}:{last}")


def _match(rule: Dict[str, Any]) -> str:
    kind = rule["type"]
    if kind in ("tcp", "udp"):
        return transport_match(rule)
    if kind == "icmp":
        return icmp_match(rule.get("icmp_type", -1), rule.get("icmp_code", -1))
    return "-p {}".format(rule.get("protocol", 0)) if kind == "protocol" else ""
