"""Everything that the rules render, by name of a golden file.

``python -m tests.unit.payload.rendered`` writes the golden files; read the difference before you keep it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.unit.payload import corpus, guest

_ROUTED_RULES = {
    **guest.FIREWALL,
    "rules": [{**rule, "src_ip": ""} for rule in guest.FIREWALL["rules"]]
    + corpus.MESSAGES["fw-default-egress"]["rules"],
}
_ROUTER6 = {
    "eth0ip6": "2001:db8:1::1",
    "eth0ip6prelen": "64",
    "eth2ip6": "2001:db8:ff::2",
    "ip6gateway": "2001:db8:ff::1",
}
_SHARED6 = {"eth0ip6": "2001:db8:3::5", "eth0ip6prelen": "64", "ip6dns1": "2001:db8::53"}
_HOST6 = {
    "mac_address": "02:00:26:c3:00:09", "ipv6_duid": "00:03:00:01:02:00:26:c3:00:09", "host_name": "vm6",
    "ipv6_address": "2001:db8:3::50", "ipv4_address": "10.30.0.50",
}  # fmt: skip
_TIER6 = {**corpus.MESSAGES["gn-v6"], "mac_address": "02:00:00:00:20:01"}
_ACL6 = {
    **corpus.MESSAGES["acl-v6"],
    "mac_address": "02:00:00:00:20:01",
    "ingress_rules": [
        *corpus.MESSAGES["acl-v6"]["ingress_rules"],
        {
            "type": "tcp",
            "first_port": 0,
            "last_port": 0,
            "cidr": "0.0.0.0/0,2001:db8:2::/64",
            "allowed": False,
        },
        {"type": "udp", "first_port": 53, "last_port": 60, "cidr": "203.0.113.0/24,::/0", "allowed": True},
        {"type": "icmp", "icmp_type": 128, "icmp_code": 0, "cidr": "2001:db8:3::/64", "allowed": True},
    ],
    "egress_rules": [{"type": "all", "cidr": "0.0.0.0/0,::/0", "allowed": True}],
}
_DENIED6 = {
    "id": 12, "protocol": "tcp", "revoked": False, "src_port_range": [25, 25], "traffic_type": "Egress",
    "default_egress_policy": True, "guest_ip6_cidr": "2001:db8:1::/64", "source_cidr_list": [], "dest_cidr_list": [],
}  # fmt: skip
_FIREWALL6 = {"type": "ipv6firewallrules", "rules": [*corpus.MESSAGES["fw6"]["rules"], _DENIED6]}
_PEER6 = {**corpus.MESSAGES["bgp-v6"], "peers": guest.PEERS["peers"] + corpus.MESSAGES["bgp-v6"]["peers"]}
_ALIAS = {"revoke": False, "ip_address": "10.30.1.5", "netmask": "255.255.255.0", "count": 1}
GOLDEN = Path(__file__).with_name("golden")
SCENES = {
    "router": [guest.ROUTER],
    "router-rules": [
        guest.ROUTER, guest.PUBLIC_IP, guest.FIREWALL, guest.FORWARD, guest.STATIC_NAT, guest.BALANCER, *guest.DHCP,
    ],
    "router-vpn": [guest.ROUTER, guest.SITE_VPN, guest.REMOTE_VPN],
    "redundant": [guest.REDUNDANT, *guest.DHCP],
    "vpc": [guest.VPC, guest.VPC_PUBLIC, guest.TIER, guest.ACL, guest.VPC_FORWARD, guest.STATIC_ROUTE],
    "vpc-empty": [guest.VPC],
    "dhcpsrvr": [guest.SHARED],
    "dhcpsrvr-alias": [
        guest.SHARED, {"type": "ipaliases", "aliases": [_ALIAS]},
        {**guest.DHCP[0], "ipv4_address": "10.30.1.50", "default_gateway": "10.30.1.1"},
    ],
    "dhcpsrvr-ipv6": [
        guest.command_line(**guest.SHARED["cmd_line"], **_SHARED6),
        {**corpus.MESSAGES["dhcp-v6"], **_HOST6}, *guest.DHCP,
    ],
    "ilbvm": [guest.INTERNAL, guest.BALANCER],
    "router-routed": [guest.command_line(**guest.ROUTER["cmd_line"], is_routed="true"), _ROUTED_RULES],
    "router-ipv6": [guest.command_line(**guest.ROUTER["cmd_line"], **_ROUTER6), _FIREWALL6],
    "router-bgp": [
        guest.command_line(**guest.ROUTER["cmd_line"], **_ROUTER6, is_routed="true"), _PEER6,
    ],
    "vpc-ipv6": [guest.VPC, guest.VPC_PUBLIC, _TIER6, _ACL6, corpus.MESSAGES["dhcp-v6"]],
    "vpc-inner": [
        guest.command_line(**{**guest.VPC["cmd_line"], "has_public_network": "false"}),
        {**guest.TIER, "router_guest_gateway": "10.20.1.254", "is_vr_guest_gateway": False, "network_id": 7},
    ],
    "vpc-two-ranges": [
        guest.command_line(**guest.VPC["cmd_line"], source_nat_ip="198.51.100.10"), guest.VPC_PUBLIC, guest.PUBLIC_IP,
    ],
}  # fmt: skip


def _lines(values: list[str]) -> str:
    return "".join(value + "\n" for value in values)


def everything() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every golden file."""
    netfilter, ipv6 = guest.module("netfilter"), guest.module("netfilter.ipv6")
    dhcp, routes, addresses = (guest.module(f"parts.{name}") for name in ("dhcp", "routes", "addresses"))
    for scene, documents in SCENES.items():
        state = guest.state(*documents)
        yield f"{scene}.iptables", netfilter.render(state.topology, state.bags)
        yield f"{scene}.ip6tables", ipv6.render(state.topology, state.bags)
        wanted = addresses.wanted(state.topology, primary=True)
        yield (
            f"{scene}.network",
            _lines(
                [f"{device} {' '.join(found)}" for device, found in sorted(wanted.items())]
                + routes.wanted(state)
                + routes.rules(state.topology)
            ),
        )
        if state.topology.serves_guests:
            yield f"{scene}.dnsmasq", dhcp.render_config(state.topology)
            yield f"{scene}.dhcphosts", dhcp.render_hosts(state)
            yield f"{scene}.dhcpopts", dhcp.render_options(state)
            yield f"{scene}.names", dhcp.render_names(state)
    yield from _others()


def _others() -> Iterator[tuple[str, str]]:
    redundancy, ipsec, monitor, bgp = (
        guest.module(f"parts.{n}") for n in ("redundancy", "ipsec", "monitor", "bgp")
    )
    pair = guest.state(guest.REDUNDANT).topology
    yield "keepalived.conf", redundancy.render_keepalived(pair)
    yield "conntrackd.conf", redundancy.render_conntrackd(pair)
    yield "ipsec.site.conf", ipsec.render_site(guest.SITE_VPN)
    yield "ipsec.site.secrets", ipsec.render_site_secret(guest.SITE_VPN)
    for path, text in ipsec.render_remote_access(guest.REMOTE_VPN).items():
        yield f"remote-access.{path.name}", text
    yield "monitor.conf", monitor.render_config(guest.MONITOR)
    yield "monitor.cron", monitor.render_cron(guest.MONITOR)
    peers = {"1-2": guest.PEERS["peers"][0], "3-204": corpus.MESSAGES["bgp-v6"]["peers"][0]}
    peers["4-204"] = {**corpus.MESSAGES["bgp"]["peers"][0], "ip4_address": "192.0.2.9"}
    yield "frr.conf", bgp.render("r-10-VM", peers, "192.0.2.10")
    yield (
        "radvd.conf",
        guest.module("parts.radvd").render(guest.state(guest.VPC, guest.VPC_PUBLIC, _TIER6).topology),
    )
    yield "health_checks_data.json", monitor.render_data(guest.MONITOR)
    template = (guest.SYSTEMVM / "debian/etc/apache2/vhost.template").read_text()
    for name, text in guest.module("parts.web").render_sites(template, ["10.1.1.1"]).items():
        yield name, text


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, text in everything():
        (GOLDEN / name).write_text(text)
