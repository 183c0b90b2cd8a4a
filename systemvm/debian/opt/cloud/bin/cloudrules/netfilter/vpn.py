"""Openings for the remote-access and the site-to-site VPN."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from ..ruleset import RuleSet
from ..store import Bags
from ..topology import Topology

_KEY_EXCHANGE = ("-p udp -m udp --dport 500", "-p udp -m udp --dport 4500", "-p esp")


def add(rules: RuleSet, topology: Topology, bags: Bags) -> None:
    """Let key exchange and encrypted packets in, and decrypted ones through."""
    for address, row in sorted(_entries(bags, "remoteaccessvpn")):
        public = topology.public_of(address)
        if public is None:
            continue
        _accept(rules, address, public.device, _KEY_EXCHANGE)
        # L2TP only inside IPsec: the policy match refuses what came in the clear.
        l2tp = "-d {}/32 -i {} -p udp -m udp --dport 1701 -m policy --dir in --pol ipsec -j ACCEPT"
        rules.add("filter", "INPUT", l2tp.format(address, public.device))
        if rules.has_chain("mangle", "VPN_" + address):
            rules.front("mangle", "VPN_" + address, "-p udp -m udp --dport 1701 -j ACCEPT")
        cidr = row.get("local_cidr")
        if cidr:
            rules.add("filter", "FORWARD", f"-d {cidr} -i ppp+ -j ACCEPT")
            rules.add("filter", "FORWARD", f"-s {cidr} -o ppp+ -j ACCEPT")
        _names(rules, topology, row.get("local_ip", ""))
    for _peer, row in sorted(_entries(bags, "site2sitevpn")):
        public = topology.public_of(row["local_public_ip"])
        if public is None:
            continue
        peer = "-s {} ".format(row["peer_gateway_ip"])
        _accept(rules, row["local_public_ip"], public.device, _KEY_EXCHANGE, peer)
        for network in row.get("peer_guest_cidr_list", "").split(","):
            if not network:
                continue
            rules.add(
                "filter",
                "FORWARD",
                f"-s {network} -i {public.device} -m policy --dir in --pol ipsec -j ACCEPT",
            )
            rules.add("filter", "FORWARD", f"-d {network} -o {public.device} -j ACCEPT")
            # What goes through the tunnel keeps its source address.
            rules.front("nat", "POSTROUTING", f"-d {network} -o {public.device} -j ACCEPT")


def _names(rules: RuleSet, topology: Topology, server: str) -> None:
    """Answer questions for names that users ask of the server's end of their tunnels, as they are told to."""
    if not server or not topology.guests or not topology.serves_guests:
        return
    resolver = topology.guests[0].server
    for protocol in ("udp", "tcp"):
        asks = f"-i ppp+ -p {protocol} -m {protocol} --dport 53"
        rules.add("nat", "PREROUTING", f"-d {server}/32 {asks} -j DNAT --to-destination {resolver}")
        rules.add("filter", "INPUT", f"-d {resolver}/32 {asks} -j ACCEPT")


def _accept(rules: RuleSet, address: str, device: str, matches: Tuple[str, ...], peer: str = "") -> None:
    for match in matches:
        rules.add("filter", "INPUT", f"{peer}-d {address}/32 -i {device} {match} -j ACCEPT")
        if rules.has_chain("mangle", "VPN_" + address):
            rules.front("mangle", "VPN_" + address, f"{peer}{match} -j ACCEPT")


def _entries(bags: Bags, name: str) -> List[Tuple[str, Dict[str, Any]]]:
    return [(key, row) for key, row in bags.get(name, {}).items() if key != "id"]
