"""Openings for the listeners of the load balancer."""

from __future__ import annotations

from ..ruleset import NEW, RuleSet
from ..store import Bag


def add(rules: RuleSet, bag: Bag) -> None:
    """Open the address and port of every rule, and of the statistics page for its sources."""
    for row in bag.get("config", []):
        for listener in row["add_rules"]:
            address, port = listener.split(":")[:2]
            rules.add("filter", "INPUT", f"-d {address}/32 -p tcp -m tcp --dport {port} {NEW} -j ACCEPT")
        for listener in row.get("stat_rules", []):
            address, port, sources = [*listener.split(":"), "", ""][:3]
            for source in sources.split(","):
                if not source:
                    continue
                origin = "" if source.startswith("0/") else f"-s {source} "
                rules.add(
                    "filter",
                    "INPUT",
                    f"{origin}-d {address}/32 -p tcp -m tcp --dport {port} {NEW} -j ACCEPT",
                )
