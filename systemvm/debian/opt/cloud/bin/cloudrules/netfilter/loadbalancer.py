"""Openings for the listeners of the load balancer."""

from __future__ import annotations

from ..ruleset import NEW, RuleSet
from ..store import Bag


def add(rules: RuleSet, bag: Bag) -> None:
    """Open the address and port of every rule, and of the statistics page for its sources."""
    for row in bag.get("config", []):
        for listener in filter(None, row["add_rules"]):
            _open(rules, listener, "")
        for listener in filter(None, row.get("stat_rules", [])):
            for source in filter(None, listener.split(":")[2].split(",")):
                _open(rules, listener, "" if source.endswith("/0") else f"-s {source} ")


def _open(rules: RuleSet, listener: str, origin: str) -> None:
    address, port = listener.split(":")[:2]
    target = "" if address == "0.0.0.0/0" else f"-d {address}/32 "
    rules.add("filter", "INPUT", f"{origin}{target}-p tcp -m tcp --dport {port} {NEW} -j ACCEPT")
