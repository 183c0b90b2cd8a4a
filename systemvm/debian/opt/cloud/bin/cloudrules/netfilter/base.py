"""Rules that every system VM with rules has: protection of itself, services for its guests, accounting, source NAT."""

from __future__ import annotations

from typing import Optional

from ..ruleset import ESTABLISHED, NEW, RuleSet
from ..topology import GuestNetwork, PublicDevice, Topology

VRRP_GROUP = "224.0.0.18/32"
CONNTRACK_GROUP = "225.0.0.50/32"


def add(rules: RuleSet, topology: Topology) -> None:
    """Add the rules that follow from the topology alone."""
    rules.policy("filter", "INPUT", "DROP")
    rules.policy("filter", "FORWARD", "DROP")
    if topology.routes:
        _accounting(rules, topology)
    _own_input(rules, topology)
    for guest in topology.guests if topology.serves_guests else ():
        _guest_input(rules, guest, topology.config.get("exposedns") == "true")
    # The machines of a routed network have addresses of their own outside: nothing is translated or marked.
    if topology.routes and not topology.routed:
        _marks(rules, topology)
        for public in topology.publics:
            source = _source(topology, public)
            if source:
                rules.add("nat", "POSTROUTING", f"-o {public.device} -j SNAT --to-source {source}")
    # Clients without checksum offload drop DHCP answers whose checksum a virtual NIC was to fill in.
    rules.add("mangle", "POSTROUTING", "-p udp -m udp --dport 68 -j CHECKSUM --checksum-fill")


def _source(topology: Topology, public: PublicDevice) -> Optional[str]:
    """Return the address that packets get which leave by a public interface: the network's one, whichever it is.

    An isolated network has it on the command line. A VPC has it among its addresses, and what management names on the
    command line for its further interfaces; a private gateway has one of its own, or none.
    """
    if not topology.is_vpc:
        named = topology.config.get("eth2ip", "0.0.0.0")
        return public.source_nat if named == "0.0.0.0" else named
    shared = None if public.private_gateway else topology.config.get("source_nat_ip")
    return public.source_nat or shared


def mark(public: PublicDevice) -> str:
    """Return the packet mark of an interface: eth2 has 0x66."""
    return hex(public.table)


def _own_input(rules: RuleSet, topology: Topology) -> None:
    rules.add("filter", "INPUT", f"-d {VRRP_GROUP} -j ACCEPT")
    rules.add("filter", "INPUT", f"-d {CONNTRACK_GROUP} -j ACCEPT")
    rules.add("filter", "INPUT", "-p icmp -j ACCEPT")
    rules.add("filter", "INPUT", "-i lo -j ACCEPT")
    rules.add("filter", "INPUT", ESTABLISHED + " -j ACCEPT")
    rules.add(
        "filter",
        "INPUT",
        f"-i {topology.control} -p tcp -m tcp --dport 3922 -m state --state NEW,ESTABLISHED -j ACCEPT",
    )


def _guest_input(rules: RuleSet, guest: GuestNetwork, dns_for_all: bool) -> None:
    source = f"-i {guest.device} -s {guest.cidr}"
    asks = f"-i {guest.device}" if dns_for_all else source
    rules.add("filter", "INPUT", f"-i {guest.device} -p udp -m udp --dport 67 -j ACCEPT")
    for protocol in ("udp", "tcp"):
        rules.add("filter", "INPUT", f"{asks} -p {protocol} -m {protocol} --dport 53 -j ACCEPT")
    for port in (80, 443, 8080):
        rules.add("filter", "INPUT", f"{source} -p tcp -m tcp --dport {port} {NEW} -j ACCEPT")


def _marks(rules: RuleSet, topology: Topology) -> None:
    """Let the answers of a flow leave through the interface that its first packet came in by."""
    rules.add(
        "mangle",
        "PREROUTING",
        ESTABLISHED + " -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
    )
    for public in topology.publics:
        rules.add(
            "mangle",
            "PREROUTING",
            f"-i {public.device} {NEW} -j CONNMARK --set-xmark {mark(public)}/0xffffffff",
        )


def _accounting(rules: RuleSet, topology: Topology) -> None:
    """Count traffic; the rules have no target, so they decide nothing."""
    hooks = ("FORWARD", "INPUT", "OUTPUT")
    if not topology.is_vpc:
        rules.chain("filter", "NETWORK_STATS")
        for hook in hooks:
            rules.add("filter", hook, "-j NETWORK_STATS")
    for public in topology.publics:
        chain = "NETWORK_STATS_" + public.device
        rules.chain("filter", chain)
        for hook in hooks:
            rules.add("filter", hook, "-j " + chain)
        for guest in topology.guests:
            rules.add("filter", chain, f"-s {guest.cidr} -o {public.device}")
            rules.add("filter", chain, f"-d {guest.cidr} -i {public.device}")
            if not topology.is_vpc:
                rules.add("filter", "NETWORK_STATS", f"-i {guest.device} -o {public.device}")
                rules.add("filter", "NETWORK_STATS", f"-i {public.device} -o {guest.device}")
