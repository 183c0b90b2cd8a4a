"""What the rules do with packets: each case is a packet, and what becomes of it."""

from dataclasses import replace

import pytest

from tests.unit.payload import corpus, guest
from tests.unit.payload.packets import Filter, Packet

OUT, IN = "198.51.100.7", "10.1.1.50"
NETWORKS = {"10.1.1.0/24": "eth0", "169.254.0.0/16": "eth1", "": "eth2"}
TIERS = {"10.20.1.0/24": "eth2", "10.20.2.0/24": "eth3", "172.31.0.0/24": "eth5", "": "eth1"}


def rules(*rows):
    """Return the messages of firewall rules, each ``(id, more)``."""
    plain = {
        "protocol": "tcp",
        "revoked": False,
        "source_cidr_list": ["0.0.0.0/0"],
        "traffic_type": "Ingress",
    }
    return {"type": "firewallrules", "rules": [{**plain, "id": number, **more} for number, more in rows]}


def opened(number, port, address="192.0.2.10", **more):
    return number, {"src_ip": address, "src_port_range": [port, port], **more}


def egress(number, **more):
    return number, {"src_ip": "", "traffic_type": "Egress", "protocol": "all", "source_cidr_list": [], **more}


def packet_filter(*documents, family=4):
    state = guest.state(*documents)
    name = "netfilter" if family == 4 else "netfilter.ipv6"
    return Filter(guest.module(name).render(state.topology, state.bags))


FORWARD = {**guest.FORWARD["rules"][0], "source_cidr_list": "198.51.100.0/24"}
ROUTER = packet_filter(
    guest.ROUTER, guest.PUBLIC_IP, guest.STATIC_NAT, guest.BALANCER,
    rules(
        opened(1, 2222), opened(2, 80), opened(3, 443, "192.0.2.20"), opened(4, 5005, protocol="udp"),
        opened(7, 5006, "192.0.2.20", protocol="udp"),
        opened(5, 0, src_port_range=None, protocol="icmp", icmp_type=8, icmp_code=-1),
        egress(6, protocol="tcp", src_port_range=[8000, 8010], source_cidr_list=["10.1.1.0/24"],
               dest_cidr_list=["203.0.113.0/24"]),
    ),
    {"type": "forwardrules", "rules": [FORWARD, guest.FORWARD["rules"][1]]},
)  # fmt: skip
TO_SELF = {
    "a machine asks DNS": (Packet(IN, "10.1.1.1", "udp", 53, "eth0"), True),
    "a machine asks DNS over TCP": (Packet(IN, "10.1.1.1", "tcp", 53, "eth0"), True),
    "a stranger on the guest network asks DNS": (Packet("172.20.0.9", "10.1.1.1", "udp", 53, "eth0"), False),
    "a machine without an address asks for one": (
        Packet("0.0.0.0", "255.255.255.255", "udp", 67, "eth0"),
        True,
    ),
    "DHCP from outside": (Packet(OUT, "192.0.2.10", "udp", 67, "eth2"), False),
    "DHCP from the control network": (Packet("169.254.0.1", "169.254.12.34", "udp", 67, "eth1"), False),
    "metadata": (Packet(IN, "10.1.1.1", "tcp", 80, "eth0"), True),
    "metadata over TLS": (Packet(IN, "10.1.1.1", "tcp", 443, "eth0"), True),
    "a password": (Packet(IN, "10.1.1.1", "tcp", 8080, "eth0"), True),
    "a password for a stranger": (Packet("172.20.0.9", "10.1.1.1", "tcp", 8080, "eth0"), False),
    "sshd from the host": (Packet("169.254.0.1", "169.254.12.34", "tcp", 3922, "eth1"), True),
    "sshd from a machine": (Packet(IN, "10.1.1.1", "tcp", 3922, "eth0"), False),
    "another port from the host": (Packet("169.254.0.1", "169.254.12.34", "tcp", 22, "eth1"), False),
    "statistics from the host": (Packet("169.254.0.1", "169.254.12.34", "tcp", 8081, "eth1"), True),
    "an echo from a machine": (Packet(IN, "10.1.1.1", "icmp", 0, "eth0", icmp="8/0"), True),
    "an echo from outside": (Packet(OUT, "192.0.2.10", "icmp", 0, "eth2", icmp="8/0"), True),
    "the router itself": (Packet("127.0.0.1", "127.0.0.1", "tcp", 9999, "lo"), True),
    "the other router of the pair": (Packet("10.1.1.12", "224.0.0.18", "112", 0, "eth0"), True),
    "the flows of the other router": (Packet("10.1.1.12", "225.0.0.50", "udp", 3780, "eth0"), True),
    "another group": (Packet("10.1.1.12", "225.0.0.51", "udp", 3780, "eth0"), False),
    "an answer": (Packet(OUT, "192.0.2.10", "tcp", 40000, "eth2", state="ESTABLISHED"), True),
    "a port that nobody opened, from a machine": (Packet(IN, "10.1.1.1", "tcp", 9999, "eth0"), False),
    "a balancer": (Packet(OUT, "192.0.2.10", "tcp", 80, "eth2"), True),
    "the port of a balancer at the control address": (
        Packet("169.254.0.1", "169.254.12.34", "tcp", 80, "eth1"),
        False,
    ),
    "the port of a balancer at another address": (Packet(OUT, "192.0.2.20", "tcp", 80, "eth2"), False),
    "a port that the firewall leaves closed": (Packet(OUT, "192.0.2.10", "tcp", 8443, "eth2"), False),
}


@pytest.mark.parametrize("name", TO_SELF)
def test_what_reaches_a_router_itself(name):
    packet, comes_through = TO_SELF[name]
    assert (ROUTER.arrives(packet) is not None) == comes_through


def test_dns_for_all_is_for_everybody_on_the_guest_network():
    config = guest.command_line(**guest.ROUTER["cmd_line"], exposedns="true")
    asked = Packet("172.20.0.9", "10.1.1.1", "udp", 53, "eth0")
    assert packet_filter(config).arrives(asked)
    assert packet_filter(config).arrives(replace(asked, came_by="eth2", source=OUT)) is None


def test_statistics_of_a_balancer_are_for_their_sources():
    rule = {**guest.BALANCER["rules"][0], "stat_rules": ["10.1.1.1:8081:10.1.1.48/29,:,"]}
    found = packet_filter(guest.ROUTER, {**guest.BALANCER, "rules": [rule]})
    asked = Packet(IN, "10.1.1.1", "tcp", 8081, "eth0")
    assert found.arrives(asked)
    assert found.arrives(replace(asked, source="10.1.1.60")) is None


def end(packet, filter_=ROUTER, networks=NETWORKS):
    """Return who gets a forwarded packet from whom, or None."""
    found = filter_.forwarded(packet, networks)
    return found and (found.source, found.destination, found.port)


FORWARDED = {
    "a forwarding": (Packet(OUT, "192.0.2.10", "tcp", 2222, "eth2"), (OUT, IN, 22)),
    "a forwarding, from a source it does not name": (Packet("203.0.113.9", "192.0.2.10", "tcp", 2222, "eth2"), None),
    "a forwarding of ports that the firewall leaves closed": (Packet(OUT, "192.0.2.10", "udp", 5001, "eth2"), None),
    "a forwarding of a port that is open at another address": (Packet(OUT, "192.0.2.10", "udp", 5006, "eth2"), None),
    "a forwarding of a range": (Packet(OUT, "192.0.2.10", "udp", 5005, "eth2"), (OUT, "10.1.1.51", 6000)),
    "a forwarding, by another protocol": (Packet(OUT, "192.0.2.10", "tcp", 5005, "eth2"), None),
    "static NAT": (Packet(OUT, "192.0.2.20", "tcp", 443, "eth2"), (OUT, "10.1.1.60", 443)),
    "static NAT, a closed port": (Packet(OUT, "192.0.2.20", "tcp", 22, "eth2"), None),
    "what leaves, as a rule allows": (
        Packet(IN, "203.0.113.5", "tcp", 8010, "eth0"), ("192.0.2.10", "203.0.113.5", 8010),
    ),
    "what leaves to another network": (Packet(IN, OUT, "tcp", 8010, "eth0"), None),
    "what leaves by another port": (Packet(IN, "203.0.113.5", "tcp", 8011, "eth0"), None),
    "what leaves from another network": (Packet("172.20.0.9", "203.0.113.5", "tcp", 8000, "eth0"), None),
    "the machine of static NAT": (
        Packet("10.1.1.60", "203.0.113.5", "tcp", 8000, "eth0"), ("192.0.2.20", "203.0.113.5", 8000),
    ),
    "an answer from outside": (Packet(OUT, IN, "tcp", 40000, "eth2", state="ESTABLISHED"), (OUT, IN, 40000)),
    "an answer to the outside": (Packet(IN, OUT, "tcp", 40000, "eth0", state="ESTABLISHED"), (IN, OUT, 40000)),
    "a machine, straight from outside": (Packet(OUT, "10.1.1.77", "tcp", 22, "eth2"), None),
    "a neighbour": (Packet(IN, "10.1.1.70", "tcp", 7, "eth0"), (IN, "10.1.1.70", 7)),
    "an answer to a neighbour": (Packet(IN, "10.1.1.70", "tcp", 7, "eth0", state="ESTABLISHED"), (IN, "10.1.1.70", 7)),
    "the control network from a machine": (Packet(IN, "169.254.0.1", "tcp", 22, "eth0"), None),
    "an answer to the control network": (
        Packet(IN, "169.254.0.1", "tcp", 22, "eth0", state="ESTABLISHED"), (IN, "169.254.0.1", 22),
    ),
    "a machine from the control network": (Packet("169.254.0.1", IN, "tcp", 22, "eth1"), None),
}  # fmt: skip


@pytest.mark.parametrize("name", FORWARDED)
def test_what_a_router_forwards(name):
    packet, comes_through = FORWARDED[name]
    assert end(packet) == comes_through


def test_a_machine_reaches_its_neighbour_by_the_public_address_and_the_answer_comes_back_the_same_way():
    found = packet_filter(
        guest.ROUTER, guest.PUBLIC_IP, guest.FORWARD, guest.STATIC_NAT, rules(opened(1, 2222))
    )
    assert end(Packet("10.1.1.70", "192.0.2.10", "tcp", 2222, "eth0"), found) == ("10.1.1.1", IN, 22)
    static = packet_filter(
        guest.ROUTER, guest.PUBLIC_IP, guest.STATIC_NAT, rules(opened(1, 443, "192.0.2.20"))
    )
    assert end(Packet(IN, "192.0.2.20", "tcp", 443, "eth0"), static) == ("10.1.1.1", "10.1.1.60", 443)


def test_the_router_itself_reaches_what_it_forwards():
    own = Packet("192.0.2.10", "192.0.2.10", "tcp", 2222)
    assert (ROUTER.sent(own).destination, ROUTER.sent(own).port) == (IN, 22)
    assert ROUTER.sent(replace(own, destination="192.0.2.20", port=443)).destination == "10.1.1.60"


@pytest.mark.parametrize("number", [0, 8])
def test_the_default_of_what_leaves_stands_behind_its_exceptions(number):
    ask = Packet(IN, OUT, "tcp", 25, "eth0")
    named = {"protocol": "tcp", "src_port_range": [25, 25], "source_cidr_list": ["10.1.1.0/24"]}
    for allowed in (True, False):
        policy = {"default_egress_policy": allowed}
        found = packet_filter(guest.ROUTER, rules(egress(number, **policy), egress(9, **{**named, **policy})))
        assert (end(ask, found) is None) == allowed
        assert (end(replace(ask, port=26), found) is not None) == allowed


def test_the_answers_of_a_flow_leave_by_the_interface_that_it_came_by():
    came = ROUTER.forwarded(Packet(OUT, "192.0.2.10", "tcp", 2222, "eth2"), NETWORKS)
    assert (came.mark, came.flow_mark) == (0x66, 0x66)
    answer = Packet(IN, OUT, "tcp", 40000, "eth0", state="ESTABLISHED", flow_mark=0x66)
    assert ROUTER.forwarded(answer, NETWORKS).mark == 0x66
    # What a program of the router serves, such as the balancer, goes through no forwarding.
    assert ROUTER.arrives(Packet(OUT, "192.0.2.10", "tcp", 80, "eth2")).flow_mark == 0x66
    left = ROUTER.forwarded(Packet("10.1.1.60", "203.0.113.5", "tcp", 8000, "eth0"), NETWORKS)
    assert (left.mark, left.flow_mark) == (0x66, 0x66)


def tcp(cidr, port, allowed=True, **more):
    return {"type": "tcp", "first_port": port, "last_port": port, "cidr": cidr, "allowed": allowed, **more}


EVERYTHING = {"type": "all", "cidr": "0.0.0.0/0", "allowed": True}
SECOND = {**guest.TIER, "mac_address": "02:00:00:00:20:02", "device": "eth3", "router_guest_ip": "10.20.2.1",
          "router_guest_gateway": "10.20.2.1"}  # fmt: skip
GATEWAY = {
    **guest.VPC_PUBLIC["ip_address"][0], "public_ip": "172.31.0.1", "gateway": "172.31.0.2", "nic_dev_id": 5,
    "vif_mac_address": "1e:00:00:00:00:09", "is_private_gateway": True, "source_nat": False, "first_i_p": False,
}  # fmt: skip
ABOUT_GATEWAY = {"device": "eth5", "mac_address": "1e:00:00:00:00:09", "private_gateway_acl": True}


def vpc(ingress=(), egress=(), *documents, second=(EVERYTHING,)):
    first = {**guest.ACL, "ingress_rules": list(ingress), "egress_rules": list(egress)}
    other = {**guest.ACL, "device": "eth3", "mac_address": "02:00:00:00:20:02",
             "ingress_rules": [], "egress_rules": list(second)}  # fmt: skip
    return packet_filter(guest.VPC, guest.VPC_PUBLIC, guest.TIER, SECOND, first, other, *documents)


INTO = Packet("10.20.2.50", "10.20.1.50", "tcp", 22, "eth3")
LEAVING = Packet("10.20.1.50", OUT, "tcp", 443, "eth2")


def test_the_first_rule_of_an_access_list_that_fits_decides_and_the_rest_is_dropped():
    denied = tcp("10.20.2.0/24", 22, allowed=False)
    assert end(INTO, vpc([denied, EVERYTHING]), TIERS) is None
    assert end(INTO, vpc([EVERYTHING, denied]), TIERS)
    assert end(INTO, vpc([tcp("10.20.2.0/24", 23)]), TIERS) is None
    assert end(INTO, vpc([tcp("10.20.3.0/24", 22)]), TIERS) is None
    assert end(INTO, vpc([tcp("10.20.3.0/24,10.20.2.0/24", 0)]), TIERS)
    assert end(replace(INTO, state="ESTABLISHED"), vpc(), TIERS)


def test_what_leaves_a_tier_goes_through_its_list_and_gets_the_source_nat_address():
    nothing = {**EVERYTHING, "allowed": False}
    allowed = tcp("198.51.100.0/24", 443)
    assert end(LEAVING, vpc(egress=[allowed, nothing]), TIERS) == ("198.51.100.10", OUT, 443)
    assert end(replace(LEAVING, port=444), vpc(egress=[allowed, nothing]), TIERS) is None
    assert end(LEAVING, vpc(egress=[tcp("198.51.100.0/24", 443, allowed=False)]), TIERS) is None
    assert end(INTO, vpc([EVERYTHING], second=[nothing]), TIERS) is None


def test_what_leaves_a_tier_passes_unless_denied_and_is_closed_where_nothing_is_translated():
    assert end(LEAVING, vpc(), TIERS) == ("198.51.100.10", OUT, 443)
    assert end(LEAVING, vpc(egress=[tcp("203.0.113.0/24", 443)]), TIERS) == ("198.51.100.10", OUT, 443)
    routed = guest.command_line(**guest.VPC["cmd_line"], is_routed="true")

    def rendered(*egress_rules):
        listed = {**guest.ACL, "ingress_rules": [], "egress_rules": list(egress_rules)}
        return packet_filter(routed, guest.VPC_PUBLIC, guest.TIER, listed)

    assert end(LEAVING, rendered(), TIERS) is None
    assert end(LEAVING, rendered(tcp("203.0.113.0/24", 443)), TIERS) is None
    assert end(LEAVING, rendered(tcp("198.51.100.0/24", 443)), TIERS) == ("10.20.1.50", OUT, 443)


def test_a_machine_of_a_tier_speaks_with_its_gateway_whatever_the_list_says():
    closed = vpc(egress=[{**EVERYTHING, "allowed": False}])
    assert closed.arrives(Packet("10.20.1.50", "10.20.1.1", "udp", 53, "eth2"))
    for group, protocol in (("224.0.0.18", "112"), ("225.0.0.50", "udp")):
        assert closed.arrives(Packet("10.20.1.2", group, protocol, 3780, "eth2"))
    assert closed.arrives(Packet("10.20.1.50", "10.20.2.1", "udp", 53, "eth2")) is None


def test_a_kind_of_an_access_list_rule_is_that_kind_alone():
    protocol = {"type": "protocol", "protocol": 112, "cidr": "0.0.0.0/0", "allowed": True}
    echo = {"type": "icmp", "icmp_type": 8, "icmp_code": 0, "cidr": "0.0.0.0/0", "allowed": True}
    found = vpc([protocol, echo])
    assert end(replace(INTO, protocol="112"), found, TIERS)
    assert end(replace(INTO, protocol="113"), found, TIERS) is None
    assert end(replace(INTO, protocol="icmp", icmp="8/0"), found, TIERS)
    assert end(replace(INTO, protocol="icmp", icmp="13/0"), found, TIERS) is None
    assert end(INTO, found, TIERS) is None


def test_a_forwarding_of_a_vpc_is_for_the_sources_that_it_names_and_needs_the_list():
    rule = {**guest.VPC_FORWARD["rules"][0], "source_cidr_list": "198.51.100.0/24"}
    forward = {"type": "forwardrules", "rules": [rule]}
    asked = Packet(OUT, "198.51.100.10", "tcp", 2222, "eth1")
    assert end(asked, vpc([tcp("0.0.0.0/0", 22)], [], forward), TIERS) == (OUT, "10.20.1.50", 22)
    assert end(asked, vpc([], [], forward), TIERS) is None
    assert end(replace(asked, source="203.0.113.9"), vpc([EVERYTHING], [], forward), TIERS) is None


def test_the_list_of_a_private_gateway_filters_both_ways_and_nothing_is_translated_there():
    partner = {"type": "ips", "ip_address": [GATEWAY]}
    acl = {**guest.ACL, **ABOUT_GATEWAY, "ingress_rules": [tcp("10.20.1.0/24", 443)],
           "egress_rules": [tcp("10.20.1.0/24", 23, allowed=False)]}  # fmt: skip
    state = guest.module("merge").merge
    bags = guest.merged(guest.VPC, guest.VPC_PUBLIC, guest.TIER, {**guest.ACL, "ingress_rules": [EVERYTHING]})
    for document in (partner, acl):
        bags = state(
            bags,
            guest.module("messages").check(document),
            {**guest.MACS, GATEWAY["vif_mac_address"]: "eth5"}.get,
        )
    found = Filter(guest.module("netfilter").render(guest.module("topology").read(bags), bags))
    came = Packet("172.31.0.9", "10.20.1.50", "tcp", 22, "eth5")
    assert end(came, found, TIERS) == ("172.31.0.9", "10.20.1.50", 22)
    assert end(replace(came, port=23), found, TIERS) is None
    left = Packet("10.20.1.50", "172.31.0.9", "tcp", 443, "eth2")
    assert end(left, found, TIERS) == ("10.20.1.50", "172.31.0.9", 443)
    assert end(replace(left, port=444), found, TIERS) is None


def test_a_routed_network_is_translated_nowhere_and_lets_in_what_its_firewall_names():
    config = guest.command_line(**guest.ROUTER["cmd_line"], is_routed="true")
    allowed = egress(2, default_egress_policy=True)
    named = (
        1,
        {"src_port_range": [22, 22], "source_cidr_list": ["198.51.100.0/24"], "dest_cidr_list": [f"{IN}/32"]},
    )
    found = packet_filter(config, rules(named, allowed))
    assert end(Packet(IN, OUT, "tcp", 443, "eth0"), found) == (IN, OUT, 443)
    assert found.forwarded(Packet(IN, OUT, "tcp", 443, "eth0"), NETWORKS).mark == 0
    came = Packet(OUT, IN, "tcp", 22, "eth2")
    assert end(came, found) == (OUT, IN, 22)
    for other in ({"port": 23}, {"source": "203.0.113.9"}, {"destination": "10.1.1.60"}):
        assert end(replace(came, **other), found) is None
    assert end(replace(came, port=40000, state="ESTABLISHED"), found)


VPN = packet_filter(guest.ROUTER, guest.SITE_VPN, guest.REMOTE_VPN)
PEER = "203.0.113.7"


@pytest.mark.parametrize(("protocol", "port"), [("udp", 500), ("udp", 4500), ("esp", 0)])
def test_a_vpn_lets_key_exchange_and_encrypted_packets_in(protocol, port):
    assert VPN.arrives(Packet(OUT, "192.0.2.10", protocol, port, "eth2"))
    site = packet_filter(guest.ROUTER, guest.SITE_VPN)
    assert site.arrives(Packet(PEER, "192.0.2.10", protocol, port, "eth2"))
    assert site.arrives(Packet(OUT, "192.0.2.10", protocol, port, "eth2")) is None
    assert ROUTER.arrives(Packet(OUT, "192.0.2.10", protocol, port, "eth2")) is None


def test_a_login_to_the_vpn_comes_encrypted_or_not_at_all():
    login = Packet(OUT, "192.0.2.10", "udp", 1701, "eth2")
    assert VPN.arrives(replace(login, policy="ipsec"))
    assert VPN.arrives(login) is None


@pytest.mark.parametrize(("family", "peer"), [(4, "192.0.2.1"), (6, "2001:db8::1")])
def test_a_neighbour_in_bgp_may_begin_a_session_and_nobody_else(family, peer):
    own, stranger = ("192.0.2.10", OUT) if family == 4 else ("2001:db8:ff::2", "2001:db8:77::1")
    six = guest.command_line(**guest.ROUTER["cmd_line"], eth2ip6="2001:db8:ff::2")
    neighbours = {
        **guest.PEERS,
        "peers": [*guest.PEERS["peers"], *corpus.MESSAGES["bgp-v6"]["peers"]],
    }
    told = packet_filter(six, neighbours, family=family)
    assert told.arrives(Packet(peer, own, "tcp", 179, "eth2"))
    assert told.arrives(Packet(peer, own, "tcp", 2605, "eth2")) is None
    assert told.arrives(Packet(stranger, own, "tcp", 179, "eth2")) is None
    assert packet_filter(six, family=family).arrives(Packet(peer, own, "tcp", 179, "eth2")) is None
    # In a VPC no firewall of a public address stands in front.
    vpc = packet_filter(guest.VPC, guest.VPC_PUBLIC, neighbours, family=family)
    assert vpc.arrives(Packet(peer, "198.51.100.10" if family == 4 else own, "tcp", 179, "eth1"))
    assert vpc.arrives(Packet(stranger, "198.51.100.10" if family == 4 else own, "tcp", 179, "eth1")) is None


def test_who_logged_in_reaches_the_machines_and_they_answer():
    vpn = {**NETWORKS, "10.1.2.0/24": "ppp0"}
    assert end(Packet("10.1.2.2", IN, "tcp", 22, "ppp0"), VPN, vpn)
    assert end(Packet(IN, "10.1.2.2", "tcp", 22, "eth0"), VPN, vpn)
    assert end(Packet("10.1.2.2", OUT, "tcp", 22, "ppp0"), VPN, vpn) is None


def test_what_goes_through_a_tunnel_keeps_its_source_and_what_comes_was_encrypted():
    assert end(Packet(IN, "10.9.0.5", "tcp", 22, "eth0"), VPN) == (IN, "10.9.0.5", 22)
    came = Packet("10.8.0.5", IN, "tcp", 22, "eth2", policy="ipsec")
    assert end(came, VPN) == ("10.8.0.5", IN, 22)
    assert end(replace(came, policy="none"), VPN) is None
    assert end(replace(came, source="10.7.0.5"), VPN) is None


def test_further_public_addresses_of_a_vpc_leave_with_the_address_that_management_names():
    config = guest.command_line(**guest.VPC["cmd_line"], source_nat_ip="198.51.100.10")
    found = packet_filter(config, guest.VPC_PUBLIC, guest.PUBLIC_IP)
    left = Packet("10.20.1.50", OUT, "udp", 53, leaves_by="eth2")
    assert found.translated(left).source == "198.51.100.10"
    assert packet_filter(guest.VPC, guest.VPC_PUBLIC, guest.PUBLIC_IP).translated(left).source == "10.20.1.50"


def test_an_isolated_network_leaves_by_each_of_its_public_networks_with_its_one_address():
    (row,) = guest.PUBLIC_IP["ip_address"]
    mac = "1e:00:aa:00:00:05"
    place = {"public_ip": "203.0.113.10", "gateway": "203.0.113.1", "nic_dev_id": 3, "vif_mac_address": mac}
    second = {"type": "ips", "ip_address": [{**row, **place, "source_nat": True, "first_i_p": True}]}
    found = packet_filter(guest.ROUTER, guest.PUBLIC_IP, second)
    for device in ("eth2", "eth3"):
        assert found.translated(Packet(IN, OUT, "udp", 53, leaves_by=device)).source == "192.0.2.10"


def test_a_rule_of_a_public_address_opens_no_machine_of_a_routed_network():
    config = guest.command_line(**guest.ROUTER["cmd_line"], is_routed="true")
    found = packet_filter(config, rules(opened(1, 22), egress(2, default_egress_policy=True)))
    assert end(Packet(OUT, IN, "tcp", 22, "eth2"), found) is None


def test_exceptions_stand_in_the_order_of_their_numbers():
    state = guest.state(guest.ROUTER, rules(
        egress(7, source_cidr_list=["10.1.1.0/24"]), egress(10, source_cidr_list=["10.1.1.8/29"]),
        egress(0, default_egress_policy=False),
    ))  # fmt: skip
    text = guest.module("netfilter").render(state.topology, state.bags)
    chain = [line.split(" ", 2)[2] for line in text.splitlines() if line.startswith("-A FW_EGRESS_RULES")]
    assert chain == ["-s 10.1.1.0/24 -j ACCEPT", "-s 10.1.1.8/29 -j ACCEPT", "-j DROP"]


def test_a_forwarding_opens_its_machine_for_its_ports_alone():
    found = packet_filter(guest.ROUTER, guest.FORWARD)
    assert end(Packet(OUT, IN, "tcp", 22, "eth2"), found) == (OUT, IN, 22)
    assert end(Packet(OUT, IN, "tcp", 23, "eth2"), found) is None


def test_ipv6_of_a_tier_is_what_its_list_allows():
    name, inside, outside = "02:00:00:00:20:01", "2001:db8:1::50", "2001:db8:ff::9"
    tier = {**corpus.MESSAGES["gn-v6"], "mac_address": name, "router_guest_ip6_cidr": "2001:db8:1::/64"}
    networks = {"2001:db8:1::/64": "eth2", "": "eth1"}

    def found(ingress=(), egress=()):
        lists = {"ingress_rules": list(ingress), "egress_rules": list(egress)}
        acl = {**corpus.MESSAGES["acl-v6"], "mac_address": name, **lists}
        return packet_filter(guest.VPC, guest.VPC_PUBLIC, tier, acl, family=6)

    came, left = Packet(outside, inside, "tcp", 22, "eth1"), Packet(inside, outside, "tcp", 443, "eth2")
    both = "0.0.0.0/0,::/0"
    assert end(came, found([tcp(both, 22)]), networks) == (outside, inside, 22)
    assert end(replace(came, port=23), found([tcp(both, 22)]), networks) is None
    assert end(came, found([tcp("0.0.0.0/0", 22)]), networks) is None
    assert end(came, found([tcp("2001:db8:ff::/64", 22, allowed=False), tcp("::/0", 22)]), networks) is None
    assert end(left, found(), networks) is None
    assert end(left, found(egress=[tcp("::/0", 443)]), networks) == (inside, outside, 443)
    assert (
        end(replace(left, destination="2001:db8:1::51"), found(egress=[tcp("::/0", 443)]), networks) is None
    )


def test_ipv6_of_a_guest_network_is_what_its_firewall_allows():
    parameters = {
        "eth0ip6": "2001:db8:1::1", "eth0ip6prelen": "64", "eth2ip6": "2001:db8:ff::2", "ip6gateway": "2001:db8:ff::1",
    }  # fmt: skip
    inside, outside = "2001:db8:1::5", "2001:db8:ff::9"
    networks = {"2001:db8:1::/64": "eth0", "": "eth2"}
    allowed = {
        "id": 9, "protocol": "tcp", "revoked": False, "src_port_range": [22, 22], "traffic_type": "Ingress",
        "default_egress_policy": True, "guest_ip6_cidr": "2001:db8:1::/64", "source_cidr_list": [],
        "dest_cidr_list": [],
    }  # fmt: skip
    denied = {**allowed, "id": 10, "src_port_range": [25, 25], "traffic_type": "Egress"}

    def found(policy):
        default = {**denied, "id": 0, "protocol": "all"}
        del default["src_port_range"]
        rows = [{**row, "default_egress_policy": policy} for row in (allowed, denied, default)]
        config = guest.command_line(**guest.ROUTER["cmd_line"], **parameters)
        return packet_filter(config, {"type": "ipv6firewallrules", "rules": rows}, family=6)

    came, left = Packet(outside, inside, "tcp", 22, "eth2"), Packet(inside, outside, "tcp", 25, "eth0")
    for policy in (True, False):
        assert end(came, found(policy), networks) == (outside, inside, 22)
        assert end(replace(came, port=23), found(policy), networks) is None
        assert end(replace(came, destination="2001:db8:2::5"), found(policy), {"": "eth0"}) is None
        assert (end(left, found(policy), networks) is None) == policy
        assert (end(replace(left, port=26), found(policy), networks) is None) == (not policy)
    assert found(True).arrives(Packet(outside, "2001:db8:ff::2", "tcp", 53, "eth2")) is None
    assert found(True).arrives(Packet(outside, "2001:db8:ff::2", "ipv6-icmp", 0, "eth2"))
    assert found(True).forwarded(Packet(outside, inside, "tcp", 22, "eth1"), networks) is None


CLOSED = {
    "router": ("eth1", {}), "vpcrouter": ("eth0", {}), "dhcpsrvr": ("eth1", {}), "ilbvm": ("eth1", {}),
    "elbvm": ("eth1", {}), "secstorage": ("eth0", {"eth2": {80, 443}, "eth1": {111}}),
    "consoleproxy": ("eth0", {"eth2": {80, 443, 8080}, "eth1": {8001}}),
}  # fmt: skip


@pytest.mark.parametrize("kind", CLOSED)
def test_a_vm_is_closed_from_its_first_second_on(kind):
    control, opened_ports = CLOSED[kind]
    found = Filter((guest.SYSTEMVM / f"debian/etc/iptables/iptables-{kind}").read_text())
    for device in ("eth0", "eth1", "eth2"):
        ports = {*opened_ports.get(device, ()), *([3922] if device == control else [])}
        for port in (22, 53, 80, 111, 443, 3922, 8001, 8080, 8443, 9999):
            asked = Packet(OUT, "192.0.2.10", "tcp", port, device)
            assert (found.arrives(asked) is not None) == (port in ports), (device, port)
        assert found.arrives(Packet(OUT, "192.0.2.10", "udp", 53, device)) is None
        assert found.arrives(Packet(OUT, "192.0.2.10", "tcp", 40000, device, state="ESTABLISHED"))
        assert found.arrives(Packet(OUT, "192.0.2.10", "icmp", 0, device, icmp="8/0"))
        assert found.forwarded(Packet(OUT, IN, "tcp", 22, device), {"": "eth0"}) is None
    assert found.arrives(Packet("127.0.0.1", "127.0.0.1", "tcp", 8210, "lo"))
