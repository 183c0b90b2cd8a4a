"""Rendering of the packet filter: one module a subject, all of them pure."""

from __future__ import annotations

from ..ruleset import RuleSet
from ..store import Bags
from ..topology import Topology
from . import base, bgp, firewall, forwarding, loadbalancer, vpc, vpn


def render(topology: Topology, bags: Bags) -> str:
    """Return the whole IPv4 packet filter of a system VM as text for iptables-restore."""
    rules = RuleSet()
    base.add(rules, topology)
    if topology.is_vpc:
        vpc.add(rules, topology, bags.get("networkacl", {}))
    elif topology.routes:
        firewall.add(rules, topology, bags.get("firewallrules", {}))
    if topology.routes:
        forwarding.add(rules, topology, bags.get("forwardingrules", {}))
        vpn.add(rules, topology, bags)
        bgp.add(rules, topology, bags)
    loadbalancer.add(rules, bags.get("loadbalancer", {}))
    return rules.render()
