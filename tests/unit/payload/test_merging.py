"""Merging of databags: properties that hold for any messages in any order."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.payload import guest

ADDRESSES = st.integers(10, 250).map(lambda n: f"192.0.2.{n}")
VMS = st.integers(2, 250).map(lambda n: f"10.1.1.{n}")
PORTS = st.integers(1, 65535)


@st.composite
def forwards(draw):
    port = draw(PORTS)
    return {
        "revoke": draw(st.booleans()),
        "protocol": draw(st.sampled_from(["tcp", "udp"])),
        "source_ip_address": draw(ADDRESSES),
        "source_port_range": f"{port}:{port}",
        "destination_ip_address": draw(VMS),
        "destination_port_range": "22:22",
    }


@st.composite
def static_nats(draw):
    return {
        "revoke": draw(st.booleans()),
        "source_ip_address": draw(ADDRESSES),
        "destination_ip_address": draw(VMS),
    }


@st.composite
def firewall_rules(draw):
    return {
        "id": draw(st.integers(1, 50)),
        "protocol": "tcp",
        "src_ip": draw(ADDRESSES),
        "src_port_range": [draw(PORTS)] * 2,
        "revoked": draw(st.booleans()),
        "traffic_type": "Ingress",
    }


@st.composite
def addresses(draw):
    return {**guest.PUBLIC_IP["ip_address"][0], "public_ip": draw(ADDRESSES), "add": draw(st.booleans())}


@st.composite
def entries(draw):
    number = draw(st.integers(2, 250))
    return {
        "type": "dhcpentry",
        "mac_address": f"02:00:00:00:00:{draw(st.integers(0, 255)):02x}",
        "ipv4_address": f"10.1.1.{number}",
        "host_name": f"vm{number}",
        "remove": draw(st.booleans()),
    }


def listed(kind, key, rows):
    return st.lists(rows, max_size=8).map(lambda found: {"type": kind, key: found})


MESSAGES = st.one_of(
    listed("forwardrules", "rules", forwards()),
    listed("staticnatrules", "rules", static_nats()),
    listed("firewallrules", "rules", firewall_rules()),
    listed("ips", "ip_address", addresses()),
    entries(),
)


@given(st.lists(MESSAGES, max_size=6))
def test_a_message_applied_twice_is_as_good_as_once(documents):
    once = guest.merged(guest.ROUTER, *documents)
    twice = guest.merged(guest.ROUTER, *(document for each in documents for document in (each, each)))
    assert once == twice


@given(
    listed("forwardrules", "rules", forwards()),
    listed("firewallrules", "rules", firewall_rules()),
    listed("ips", "ip_address", addresses()),
    st.permutations(range(3)),
)
def test_messages_of_different_types_come_in_any_order(forward, firewall, ips, order):
    documents = [forward, firewall, ips]
    shuffled = [documents[place] for place in order]
    assert guest.merged(guest.ROUTER, *shuffled) == guest.merged(guest.ROUTER, *documents)


@given(st.data())
def test_rules_that_do_not_contradict_each_other_come_in_any_order(data):
    rows = data.draw(
        st.lists(
            forwards(),
            max_size=10,
            unique_by=lambda r: (r["source_ip_address"], r["protocol"], r["source_port_range"]),
        )
    )
    shuffled = data.draw(st.permutations(rows))
    bags = [
        guest.merged(guest.ROUTER, *({"type": "forwardrules", "rules": [row]} for row in found))
        for found in (rows, shuffled)
    ]
    assert bags[0] == bags[1]


@given(st.lists(forwards(), max_size=10))
def test_one_message_with_all_rules_equals_one_for_each(rows):
    together = guest.merged(guest.ROUTER, {"type": "forwardrules", "rules": rows})
    apart = guest.merged(guest.ROUTER, *({"type": "forwardrules", "rules": [row]} for row in rows))
    strip = [
        {key: value for key, value in bags.items() if key != "forwardingrules"} for bags in (together, apart)
    ]
    assert together.get("forwardingrules", {}) == apart.get("forwardingrules", {"id": "forwardingrules"})
    assert strip[0] == strip[1]


@given(st.lists(forwards(), max_size=10))
def test_what_is_revoked_is_gone(rows):
    gone = [{**row, "revoke": True} for row in rows]
    bags = guest.merged(
        guest.ROUTER, {"type": "forwardrules", "rules": rows}, {"type": "forwardrules", "rules": gone}
    )
    assert bags["forwardingrules"] == {"id": "forwardingrules"}


@given(st.lists(MESSAGES, max_size=5))
def test_merging_leaves_the_former_state_alone(documents):
    merge, messages = guest.module("merge"), guest.module("messages")
    before = guest.merged(guest.ROUTER, guest.PUBLIC_IP, guest.FIREWALL, guest.FORWARD)
    kept = copy.deepcopy(before)
    for document in documents:
        merge.merge(before, messages.check(document), guest.MACS.get)
    assert before == kept


@given(st.lists(entries(), max_size=20))
def test_an_address_and_a_mac_have_one_dhcp_entry_at_most(documents):
    bag = guest.merged(guest.ROUTER, *documents).get("dhcpentry", {"id": ""})
    macs = [row["mac_address"] for key, row in bag.items() if key != "id"]
    assert len(macs) == len(set(macs))


def test_the_address_of_the_source_nat_comes_first():
    rows = guest.merged(guest.ROUTER, guest.PUBLIC_IP)["ips"]["eth2"]
    assert [row["public_ip"] for row in rows] == ["192.0.2.10", "192.0.2.20"]
    assert rows[1]["network"] == "192.0.2.0/24"
    assert rows[1]["broadcast"] == "192.0.2.255"
    assert rows[1]["size"] == "24"


def test_the_address_of_the_source_nat_comes_first_whatever_else_is_first():
    row = {**guest.PUBLIC_IP["ip_address"][0], "public_ip": "192.0.2.5", "first_i_p": True}
    other = {**row, "public_ip": "192.0.2.77", "source_nat": True, "first_i_p": False}
    rows = guest.merged(guest.VPC, {"type": "ips", "ip_address": [row, other]})["ips"]["eth2"]
    assert [row["public_ip"] for row in rows] == ["192.0.2.77", "192.0.2.5"]


def test_an_address_that_comes_back_on_another_interface_moves_there():
    moved = {**guest.PUBLIC_IP["ip_address"][0], "vif_mac_address": "1e:00:00:00:00:01"}
    bag = guest.merged(guest.VPC, guest.PUBLIC_IP, {"type": "ips", "ip_address": [moved]})["ips"]
    assert {
        device: [row["public_ip"] for row in rows]
        for device, rows in bag.items()
        if device not in ("id", "eth0")
    } == {"eth1": ["192.0.2.20"]}


def test_a_tier_with_another_address_takes_the_place_of_the_former():
    moved = {**guest.TIER, "router_guest_ip": "10.20.9.1"}
    merge = guest.module("merge").merge
    bags = guest.merged(guest.VPC, guest.TIER)
    bags = merge(bags, guest.module("messages").check(moved), {guest.TIER["mac_address"]: "eth5"}.get)
    assert list(bags["guestnetwork"]) == ["eth5", "id"]


def test_a_forwarding_that_names_its_sources_stands_before_one_that_does_not():
    row = guest.FORWARD["rules"][0]
    rows = [row, {**row, "destination_ip_address": "10.1.1.60", "source_cidr_list": "198.51.100.0/24"}]
    for found in (rows, rows[::-1]):
        bag = guest.merged(guest.ROUTER, {"type": "forwardrules", "rules": found})["forwardingrules"]
        assert [entry["internal_ip"] for entry in bag["192.0.2.10"]] == ["10.1.1.60", "10.1.1.50"]


def test_the_forwarding_databag_is_as_management_knows_it():
    bag = guest.merged(guest.ROUTER, guest.FORWARD, guest.STATIC_NAT)["forwardingrules"]
    assert bag["192.0.2.10"][0] == {
        "internal_ip": "10.1.1.50",
        "internal_ports": "22:22",
        "protocol": "tcp",
        "public_ip": "192.0.2.10",
        "public_ports": "2222:2222",
        "type": "forward",
    }
    assert bag["192.0.2.20"] == [{"type": "staticnat", "public_ip": "192.0.2.20", "internal_ip": "10.1.1.60"}]


def test_a_firewall_rule_with_a_known_id_is_ignored():
    other = {**guest.FIREWALL["rules"][0], "src_port_range": [80, 80]}
    bag = guest.merged(guest.ROUTER, guest.FIREWALL, {"type": "firewallrules", "rules": [other]})[
        "firewallrules"
    ]
    assert bag["5"]["src_port_range"] == (22, 22)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (
            {"type": "ips", "ip_address": [{"public_ip": "1.2.3.4", "netmask": "x", "add": True}]},
            "not a netmask",
        ),
        (
            {"type": "vmdata", "vm_ip_address": "10.1.1.5", "vm_metadata": [["metadata", "../x", "y"]]},
            "not a plain name",
        ),
        ({"type": "dhcpentry", "mac_address": "zz", "ipv4_address": "10.1.1.5"}, "not a MAC address"),
        (
            {
                "type": "dhcpentry",
                "mac_address": "02:00:00:00:00:01",
                "ipv4_address": "10.1.1.5",
                "host_name": "a,b",
            },
            "host",
        ),
        ({"type": "vmpassword", "ip_address": "10.1.1.5", "password": "a\nb"}, "one line"),
        ({"type": "forwardrules", "rules": {}}, "not a list"),
        ({"type": 7}, "no type of a message"),
    ],
)
def test_a_wrong_field_is_named(document, reason):
    with pytest.raises(guest.module("errors").Refused, match=reason):
        guest.module("messages").check(document)
