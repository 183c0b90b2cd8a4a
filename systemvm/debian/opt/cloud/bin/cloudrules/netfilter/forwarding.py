"""Port forwarding and static NAT."""

from __future__ import annotations

from typing import Any, Dict

from ..ruleset import NEW, RuleSet, port_match
from ..store import Bag
from ..topology import PublicDevice, Topology
from .base import mark


def add(rules: RuleSet, topology: Topology, bag: Bag) -> None:
    """Add the rules of every public address, in the order of the addresses."""
    for public_ip in sorted(key for key in bag if key != "id"):
        public = topology.public_of(public_ip)
        if public is None:
            continue
        for row in bag[public_ip]:
            if row["type"] == "forward":
                _forward(rules, topology, public, row)
            else:
                _static_nat(rules, topology, public, row)


def _forward(rules: RuleSet, topology: Topology, public: PublicDevice, row: Dict[str, Any]) -> None:
    guest = topology.guest_of(row["internal_ip"])
    match = port_match(row["protocol"], row["public_ports"])
    inner = port_match(row["protocol"], row["internal_ports"])
    to = "{}:{}".format(row["internal_ip"], _dnat_ports(row["internal_ports"]))
    destination = "-d {}/32".format(row["public_ip"])
    for source in row.get("source_cidr_list") or [None]:
        origin = f"-s {source} " if source else ""
        if topology.is_vpc:
            rules.add(
                "nat",
                "PREROUTING",
                f"{origin}{destination} {match} -j DNAT --to-destination {to}",
            )
            continue
        for device in [public.device] + ([guest.device] if guest else []):
            rules.add(
                "nat",
                "PREROUTING",
                f"{origin}{destination} -i {device} {match} -j DNAT --to-destination {to}",
            )
    rules.add("nat", "OUTPUT", f"{destination} {match} -j DNAT --to-destination {to}")
    if guest:
        # A VM that reaches its neighbour through the public address must get the answer through the router, too.
        hairpin = "-s {} -d {}/32 -o {} {} -j SNAT --to-source {}"
        rules.add(
            "nat",
            "POSTROUTING",
            hairpin.format(guest.cidr, row["internal_ip"], guest.device, inner, guest.gateway),
        )
    if topology.is_vpc:
        return
    arriving = f"{destination} -i {public.device} {match}"
    rules.add("mangle", "PREROUTING", f"{arriving} -j MARK --set-xmark {mark(public)}/0xffffffff")
    rules.add(
        "mangle",
        "PREROUTING",
        f"{arriving} {NEW} -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
    )
    if guest:
        through = "-d {}/32 -i {} -o {} {} -m state --state NEW,ESTABLISHED -j ACCEPT"
        rules.add("filter", "FORWARD", through.format(row["internal_ip"], public.device, guest.device, inner))


def _dnat_ports(ports: str) -> str:
    first, _, last = ports.partition(":")
    return first if first == last else f"{first}-{last}"


def _static_nat(rules: RuleSet, topology: Topology, public: PublicDevice, row: Dict[str, Any]) -> None:
    guest = topology.guest_of(row["internal_ip"])
    inside, outside = row["internal_ip"], row["public_ip"]
    rules.front("nat", "PREROUTING", f"-d {outside}/32 -j DNAT --to-destination {inside}")
    rules.front("nat", "POSTROUTING", f"-s {inside}/32 -o {public.device} -j SNAT --to-source {outside}")
    rules.add("nat", "OUTPUT", f"-d {outside}/32 -j DNAT --to-destination {inside}")
    if guest:
        hairpin = "-s {} -d {}/32 -o {} -j SNAT --to-source {}"
        rules.add("nat", "POSTROUTING", hairpin.format(guest.cidr, inside, guest.device, guest.gateway))
    chain = f"PREROUTING-{public.device}-def"
    if not rules.has_chain("mangle", chain):
        rules.chain("mangle", chain)
        rules.add("mangle", chain, f"-j MARK --set-xmark {mark(public)}/0xffffffff")
        rules.add("mangle", chain, "-j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff")
    rules.add("mangle", "PREROUTING", f"-s {inside}/32 {NEW} -j {chain}")
    if guest and not topology.is_vpc:
        through = "-d {}/32 -i {} -o {} {} -j ACCEPT"
        rules.add("filter", "FORWARD", through.format(inside, public.device, guest.device, NEW))
