"""What the rules render: golden files, and the rules that the contract with management names."""

import struct

import pytest

from tests.unit.payload import guest
from tests.unit.payload.rendered import GOLDEN, everything

RENDERED = dict(everything())

ALL = "--nfmask 0xffffffff --ctmask 0xffffffff"
BASE = f"""
mangle -A PREROUTING -m state --state RELATED,ESTABLISHED -j CONNMARK --restore-mark {ALL}
mangle -A PREROUTING -i eth2 -m state --state NEW -j CONNMARK --set-xmark 0x66/0xffffffff
mangle -A PREROUTING -d 192.0.2.10/32 -j VPN_192.0.2.10
mangle -A PREROUTING -d 192.0.2.10/32 -j FIREWALL_192.0.2.10
mangle -A FIREWALL_192.0.2.10 -m state --state RELATED,ESTABLISHED -j RETURN
mangle -A FIREWALL_192.0.2.10 -j DROP
mangle -A VPN_192.0.2.10 -m state --state RELATED,ESTABLISHED -j ACCEPT
mangle -A POSTROUTING -p udp -m udp --dport 68 -j CHECKSUM --checksum-fill
nat -A POSTROUTING -o eth2 -j SNAT --to-source 192.0.2.10
filter -A INPUT -d 224.0.0.18/32 -j ACCEPT
filter -A INPUT -d 225.0.0.50/32 -j ACCEPT
filter -A INPUT -i eth0 -p udp -m udp --dport 67 -j ACCEPT
filter -A INPUT -i eth1 -p tcp -m tcp --dport 3922 -m state --state NEW,ESTABLISHED -j ACCEPT
filter -A FORWARD -i eth0 -o eth2 -j FW_OUTBOUND
filter -A FW_OUTBOUND -m state --state RELATED,ESTABLISHED -j ACCEPT
filter -A FW_OUTBOUND -j FW_EGRESS_RULES
"""
RULES = """
mangle -A FIREWALL_192.0.2.10 -s 0.0.0.0/0 -p tcp -m tcp --dport 22 -j RETURN
nat -A PREROUTING -d 192.0.2.10/32 -i eth2 -p tcp -m tcp --dport 2222 -j DNAT --to-destination 10.1.1.50:22
nat -A PREROUTING -d 192.0.2.10/32 -i eth0 -p tcp -m tcp --dport 2222 -j DNAT --to-destination 10.1.1.50:22
nat -A OUTPUT -d 192.0.2.10/32 -p tcp -m tcp --dport 2222 -j DNAT --to-destination 10.1.1.50:22
nat -A POSTROUTING -s 10.1.1.0/24 -d 10.1.1.50/32 -o eth0 -p tcp -m tcp --dport 22 -j SNAT --to-source 10.1.1.1
nat -A PREROUTING -d 192.0.2.20/32 -j DNAT --to-destination 10.1.1.60
nat -A POSTROUTING -s 10.1.1.60/32 -o eth2 -j SNAT --to-source 192.0.2.20
mangle -A PREROUTING -s 10.1.1.60/32 -m state --state NEW -j PREROUTING-eth2-def
mangle -A PREROUTING-eth2-def -j MARK --set-xmark 0x66/0xffffffff
filter -A FORWARD -d 10.1.1.60/32 -i eth2 -o eth0 -m state --state NEW -j ACCEPT
filter -A INPUT -d 192.0.2.10/32 -p tcp -m tcp --dport 80 -m state --state NEW -j ACCEPT
filter -A INPUT -d 169.254.12.34/32 -p tcp -m tcp --dport 8081 -m state --state NEW -j ACCEPT
"""
VPC = """
nat -A PREROUTING -d 198.51.100.10/32 -p tcp -m tcp --dport 2222 -j DNAT --to-destination 10.20.1.50:22
nat -A POSTROUTING -o eth1 -j SNAT --to-source 198.51.100.10
filter -A ACL_INBOUND_eth2 -s 0.0.0.0/0 -p tcp -m tcp --dport 22 -j ACCEPT
filter -A ACL_INBOUND_eth2 -j DROP
mangle -A ACL_OUTBOUND_eth2 -d 0.0.0.0/0 -j ACCEPT
filter -A INPUT -i eth0 -p tcp -m tcp --dport 3922 -m state --state NEW,ESTABLISHED -j ACCEPT
"""


def rules(text):
    """Return the rules of a rule set, each with its table in front, in their order."""
    found, table = [], ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A"):
            found.append(f"{table} {line}")
    return found


def test_there_is_a_golden_file_for_everything_and_no_other():
    assert {path.name for path in GOLDEN.iterdir()} == set(RENDERED)


@pytest.mark.parametrize("name", sorted(RENDERED))
def test_renders_the_golden_file(name):
    assert RENDERED[name] == (GOLDEN / name).read_text()


@pytest.mark.parametrize(
    ("scene", "wanted"),
    [("router", BASE), ("router-rules", BASE + RULES), ("vpc", VPC)],
    ids=["base", "rules", "vpc"],
)
def test_the_rules_that_management_expects_are_there(scene, wanted):
    found = rules(RENDERED[f"{scene}.iptables"])
    assert [line for line in wanted.splitlines() if line and line not in found] == []


@pytest.mark.parametrize("name", sorted(name for name in RENDERED if name.endswith("tables")))
def test_no_rule_stands_twice_and_nothing_follows_a_drop(name):
    found = rules(RENDERED[name])
    assert len(found) == len(set(found))
    for line in found:
        if line.endswith("-j DROP") and line.count(" ") == 4:
            chain = " ".join(line.split()[:3]) + " "
            assert [rule for rule in found if rule.startswith(chain)][-1] == line


def test_static_nat_comes_before_source_nat():
    found = rules(RENDERED["router-rules.iptables"])
    own = "nat -A POSTROUTING -s 10.1.1.60/32 -o eth2 -j SNAT --to-source 192.0.2.20"
    assert found.index(own) < found.index("nat -A POSTROUTING -o eth2 -j SNAT --to-source 192.0.2.10")


def test_a_range_of_ports_is_forwarded_to_a_range():
    wanted = "-d 192.0.2.10/32 -i eth2 -p udp -m udp --dport 5000:5010 -j DNAT --to-destination 10.1.1.51:6000-6010"
    assert f"nat -A PREROUTING {wanted}" in rules(RENDERED["router-rules.iptables"])


def test_a_standby_has_neither_public_addresses_nor_routes():
    state = guest.state(guest.REDUNDANT, primary=False)
    assert guest.module("parts.addresses").wanted(state.topology, False) == {
        "eth0": ["10.1.1.11/24"],
        "eth2": [],
    }
    assert guest.module("parts.routes").wanted(state) == []


def test_nothing_is_done_about_addresses_that_are_there():
    commands = guest.module("parts.addresses").commands
    assert commands({"eth2": ["192.0.2.10/24"]}, {"eth2": ["192.0.2.10/24"]}, [], {}) == [
        "link set dev eth2 up"
    ]
    assert commands({"eth0": []}, {"eth0": ["10.1.1.1/24"]}, ["10.1.1.1/24"], {}) == []


def test_counters_are_carried_over_to_the_same_rule_only():
    carry = guest.module("parts.packetfilter").with_counters
    saved = "[7:420] -A NETWORK_STATS_eth2 -s 10.1.1.0/24 -o eth2\n[9:9] -A INPUT -i lo -j ACCEPT\n"
    text = "-A NETWORK_STATS_eth2 -s 10.1.1.0/24 -o eth2\n-A INPUT -i lo -j ACCEPT\n"
    assert carry(text, saved) == "[7:420] " + text


def test_a_lease_is_stale_when_its_address_or_its_owner_is_promised_otherwise():
    stale = guest.module("parts.dhcp").stale_leases
    assert stale("0 02:00:00:00:00:03 10.1.1.9 gone *", "") == ["0 02:00:00:00:00:03 10.1.1.9 gone *"]
    hosts6 = "id:00:03:00:01:02,[2001:db8::5],a,infinite\n"
    kept6, gone6 = "0 77 2001:db8::5 a 00:03:00:01:02", "0 77 2001:db8::6 a 00:03:00:01:02"
    assert stale(f"duid 00:01\n{kept6}\n{gone6}", hosts6) == [gone6]
    hosts = "02:00:00:00:00:01,10.1.1.5,a,infinite\n02:00:00:00:00:02,set:x,10.1.1.6,b,infinite\n"
    kept = "0 02:00:00:00:00:01 10.1.1.5 a *"
    gone = ["0 02:00:00:00:00:09 10.1.1.6 old *", "0 02:00:00:00:00:02 10.1.1.7 b *"]
    assert stale("\n".join([kept, *gone, "duid 00:01"]), hosts) == gone


def test_listening_sockets_are_read_from_the_kernel():
    text = "sl local rem st\n 0: 0A0200C0:0050 00000000:0000 0A x\n 1: 0100007F:0051 0100007F:9999 01 x\n"
    assert guest.module("sockets").parse(text) == {("192.0.2.10", 80)}


def test_an_announcement_is_a_gratuitous_arp_request():
    frame = guest.module("parts.addresses").announcement(bytes.fromhex("1e0000000002"), "192.0.2.10")
    assert frame.hex() == (
        "ffffffffffff1e0000000002080600010800060400011e0000000002c000020a000000000000c000020a"
    )


def test_a_secret_with_a_quote_is_refused():
    refused = guest.module("errors").Refused
    state = guest.state(guest.ROUTER, {**guest.SITE_VPN, "ipsec_psk": 'a"b'})
    with pytest.raises(refused, match="double quote"):
        guest.module("parts.ipsec").check(state)


def test_the_generation_of_the_packet_filter_is_read_from_the_answer():
    parse = guest.module("generation").parse
    head = struct.pack("=IHHII", 28, 10 << 8 | 15, 0, 1, 0) + bytes(4)
    assert parse(head + struct.pack("=HH", 8, 1) + struct.pack(">I", 41)) == 41
    assert parse(struct.pack("=IHHII", 20, 2, 0, 1, 0) + bytes(4)) is None
