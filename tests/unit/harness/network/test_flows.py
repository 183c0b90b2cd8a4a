"""What a declared network lets through: the yardstick of the proofs."""

from __future__ import annotations

import base64
import copy
import tomllib
from importlib.resources import files
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest

from bundle.errors import UsageError
from harness import network
from harness.guest.connection import SshCommandResult
from harness.network.flows import LOOPBACK, Flow, flows
from harness.traffic.reachability import attempt, verdict

ROUTER, VPC = (
    tomllib.loads((files("harness.network") / "shipped" / f"{name}.toml").read_text())
    for name in ("router", "vpc")
)


def table(document, **changes):
    """Return the flows of a document with some tables replaced, by source, target and port."""
    declared = network.parse({**copy.deepcopy(document), **changes})
    return {(flow.source, str(flow.target), flow.port): flow for flow in flows(declared)}


def test_a_public_address_is_closed_without_an_ingress_rule():
    open_, closed = table(ROUTER), table(ROUTER, ingress=[])
    assert open_[LOOPBACK, "192.0.2.10", 2222].allowed
    assert not any(flow.allowed for flow in closed.values() if flow.source in (LOOPBACK, "internet"))


def test_an_ingress_rule_lets_its_sources_in_only():
    found = table(ROUTER)
    assert found["internet", "192.0.2.30", 22].allowed
    assert not found[LOOPBACK, "192.0.2.30", 22].allowed
    assert found[LOOPBACK, "192.0.2.30", 22].name == "static NAT 192.0.2.30:22 is refused"


@pytest.mark.parametrize(("default", "port_7", "port_80"), [("allow", False, True), ("deny", True, False)])
def test_an_egress_rule_departs_from_the_default(default, port_7, port_80):
    found = table(ROUTER, egress_default=default)
    assert found["vm1", "192.0.2.99", 7].allowed is port_7
    assert found["vm1", "192.0.2.99", 80].allowed is port_80
    assert found["vm1", "192.0.2.99", None].allowed is port_80


def test_machines_go_out_by_their_own_address_or_that_of_the_router():
    found = table(ROUTER)
    assert found["vm1", "192.0.2.99", 80].seen_as == IPv4Address("192.0.2.10")
    assert found["vm2", "192.0.2.99", 80].seen_as == IPv4Address("192.0.2.30")


def test_the_first_line_of_an_access_list_decides():
    deny = {"device": "eth4", "ports": 5432, "allowed": False}
    assert table(VPC)["web1", "10.20.2.50", 5432].allowed
    assert not table(VPC, acl=[deny, *VPC["acl"]])["web1", "10.20.2.50", 5432].allowed
    assert table(VPC, acl=[*VPC["acl"], deny])["web1", "10.20.2.50", 5432].allowed


def test_both_lists_on_the_way_must_allow():
    found = table(VPC)
    assert not found["db1", "10.20.1.50", 80].allowed  # the list of eth3 would let it in
    assert found["db1", "172.31.0.2", 80].allowed
    no_gateway = [acl for acl in VPC["acl"] if acl["device"] != "eth2"]
    assert not table(VPC, acl=no_gateway)["web1", "172.31.0.2", 80].allowed


def test_a_static_route_leads_to_the_gateway_behind_it():
    assert table(VPC)["web1", "172.30.0.1", 80].reaches == ("partner",)
    assert not any(target == "172.30.0.1" for _, target, _ in table(VPC, route=[]))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("tenant vm1\n192.0.2.1", ""),
        ("tenant vm2\n192.0.2.1", "'tenant vm2' answers instead of vm1"),
        ("tenant vm1\n10.1.1.1", "tenant vm1 sees the address 10.1.1.1 instead of 192.0.2.1"),
        ("", "no answer within 2 s"),
    ],
)
def test_an_answer_is_judged_by_who_gives_it_and_whom_they_see(answer, problem):
    flow = Flow("rule", LOOPBACK, IPv4Address("192.0.2.10"), 80, 80, True, ("vm1",), IPv4Address("192.0.2.1"))
    assert verdict(flow, answer, "token") == problem


def test_a_datagram_is_let_in_by_rules_of_its_own_protocol() -> None:
    found = table(ROUTER)
    assert found["internet", "192.0.2.10", 5353].allowed
    assert found["internet", "192.0.2.10", 5353].inner_port == 53
    assert not found["internet", "192.0.2.10", 5060].allowed
    assert (
        found["internet", "192.0.2.10", 5060].name
        == "UDP port forward 192.0.2.10:5060 from internet is refused"
    )
    tcp = [{"public": "192.0.2.10", "ports": 5060, "protocol": "tcp"}]
    assert not table(ROUTER, ingress=tcp)["internet", "192.0.2.10", 5060].allowed
    every = [{"public": "192.0.2.10", "protocol": "all"}]
    assert table(ROUTER, ingress=every)["internet", "192.0.2.10", 5060].allowed


def test_an_access_list_tells_datagrams_from_connections() -> None:
    forward = {"public": "198.51.100.10", "public_ports": 53, "private": "10.20.1.50", "protocol": "udp"}
    listed = {"device": "eth3", "ports": 53, "protocol": "udp"}
    key = ("internet", "198.51.100.10", 53)
    assert not table(VPC, forward=[forward], acl=[{**listed, "protocol": "tcp"}])[key].allowed
    assert table(VPC, forward=[forward], acl=[listed])[key].allowed


def shipped(name):
    return tomllib.loads((files("harness.network") / "shipped" / f"{name}.toml").read_text())


def test_machines_of_a_routed_vpc_keep_their_addresses_both_ways():
    found = table(shipped("vpc-routed"))
    assert found["web1", "198.51.100.99", 80].seen_as == IPv4Address("10.30.1.50")
    inward = found["internet", "10.30.1.50", 80]
    assert (inward.rule, inward.allowed, inward.reaches) == ("routed", True, ("web1",))
    assert inward.seen_as == IPv4Address("198.51.100.99")
    assert found["internet", "10.30.1.50", None].allowed  # echoes of that network are listed
    assert not found["internet", "10.30.1.50", 22].allowed
    assert not found["internet", "10.30.2.50", 22].allowed  # only web1 is
    assert found["web1", "10.30.2.50", 22].allowed
    assert LOOPBACK not in {source for source, _, _ in found}


def test_ipv6_is_open_to_what_its_firewall_names_and_nobody_is_translated():
    found = table(shipped("router-ipv6"))
    vm1, internet = "2001:db8:1::26ff:fec3:2101", "2001:db8:ff::99"
    inward = {port: found["internet", vm1, port].allowed for port in (22, 80, None)}
    assert inward == {22: False, 80: True, None: True}
    outward = {port: found["vm1", internet, port].allowed for port in (22, 25, 80, None)}
    assert outward == {22: True, 25: False, 80: True, None: True}
    flow = found["internet", vm1, 80]
    assert (str(flow.seen_as), flow.untranslated) == (internet, True)
    assert flow.name == f"IPv6 in [{vm1}]:80 from internet"
    assert verdict(flow, f"tenant vm1\n{internet}", "") == ""
    assert "sees the address 2001:db8:ff::2" in verdict(flow, "tenant vm1\n2001:db8:ff::2", "")


def test_tunnels_carry_what_the_lists_allow():
    found = table(shipped("vpn"))
    out = found["web1", "10.9.0.1", 80]
    assert (out.rule, out.reaches, str(out.seen_as)) == ("site to site", ("internet",), "10.40.1.50")
    assert {port for source, target, port in found if (source, target) == ("caller", "10.40.1.50")} == {22}
    assert found["internet", "10.40.1.50", 22].rule == "from the other site"
    nothing = {"device": "eth2", "direction": "egress", "protocol": "all", "allowed": False}
    closed = table({**shipped("vpn"), "acl": [nothing]})
    assert not any(flow.rule in ("site to site", "remote access") for flow in closed.values())


def test_a_network_that_a_neighbour_announces_is_tried():
    flow = table(shipped("vpc-routed"))["web1", "203.0.113.1", 80]
    assert (flow.rule, flow.reaches, flow.untranslated) == ("learned route", ("internet",), True)


def test_a_routed_network_lets_in_what_its_rules_name_whatever_the_address():
    rules = {"ingress": [{"ports": 22, "cidrs": ["192.0.2.99/32"]}], "outsider": [
        {"name": "internet", "mac": "1e:00:aa:00:00:63", "device": "eth2", "address": "192.0.2.99/24"},
        {"name": "other", "mac": "1e:00:aa:00:00:64", "device": "eth2", "address": "192.0.2.98/24"},
    ]}  # fmt: skip
    found = table(ROUTER, routed=True, forward=[], static_nat=[], load_balancer=[], **rules)
    assert found["internet", "10.1.1.50", 22].allowed
    assert not found["internet", "10.1.1.50", 80].allowed
    assert not found["other", "10.1.1.50", 22].allowed


def test_a_public_address_is_tried_from_the_network_that_it_is_on():
    found = table(shipped("two-public"))
    assert {source for source, target, _ in found if target == "192.0.2.10"} == {LOOPBACK, "internet"}
    assert {source for source, target, _ in found if target in ("203.0.113.10", "203.0.113.20")} == {
        "provider"
    }
    assert found["provider", "203.0.113.10", 2222].allowed
    assert found["provider", "203.0.113.20", 80].reaches == ("vm2",)
    assert not found["provider", "203.0.113.20", 22].allowed


def test_machines_leave_with_the_one_address_of_their_network_whichever_public_network_they_go_to():
    found = table(shipped("two-public"))
    assert found["vm1", "192.0.2.99", 80].seen_as == IPv4Address("192.0.2.10")
    assert found["vm1", "203.0.113.99", 80].seen_as == IPv4Address("192.0.2.10")
    assert found["vm2", "203.0.113.99", 80].seen_as == IPv4Address("203.0.113.20")
    # It leaves by the network of its own address, and how it goes on from there is not the router's affair.
    assert ("vm2", "192.0.2.99", 80) not in found


def test_nobody_says_which_address_a_vpc_uses_on_a_further_public_network():
    nic = {"device": "eth2", "role": "public", "address": "203.0.113.10/24", "mac": "1e:00:aa:00:10:03"}
    moved = [{**row, "device": f"eth{int(row['device'][3:]) + 1}"} for row in VPC["nic"][2:]]
    acl = [{"device": "eth4", "direction": "egress", "protocol": "all"}]
    far = {"name": "far", "mac": "1e:00:5b:1c:03:02", "device": "eth2", "address": "203.0.113.99/24"}
    found = table(VPC, nic=[*VPC["nic"][:2], nic, *moved], acl=acl, outsider=[far], route=[])
    assert found["web1", "203.0.113.99", 80].allowed
    assert found["web1", "203.0.113.99", 80].seen_as is None


def test_the_sources_of_a_forward_count_in_a_vpc_only():
    far = {"sources": ["203.0.113.0/24"]}
    vpc = table(VPC, forward=[{**VPC["forward"][0], **far}, {**VPC["forward"][1], **far}])
    assert not vpc["internet", "198.51.100.10", 2222].allowed
    assert not vpc["internet", "198.51.100.10", 5353].allowed
    near = table(VPC, forward=[{**VPC["forward"][0], "sources": ["198.51.100.99/32"]}])
    assert near["internet", "198.51.100.10", 2222].allowed
    assert not near[LOOPBACK, "198.51.100.10", 2222].allowed
    assert table(ROUTER, forward=[{**ROUTER["forward"][0], **far}])["internet", "192.0.2.10", 2222].allowed


def test_the_sources_of_a_load_balancer_count_everywhere():
    balancer = {**ROUTER["load_balancer"][0], "sources": ["192.0.2.99/32"]}
    found = table(ROUTER, load_balancer=[balancer])
    assert found["internet", "192.0.2.20", 80].allowed
    assert not found[LOOPBACK, "192.0.2.20", 80].allowed


def test_a_line_of_an_access_list_may_name_several_networks_and_those_of_ipv6_say_nothing_of_ipv4():
    listed = {"device": "eth3", "ports": 22, "cidrs": ["203.0.113.0/24", "198.51.100.99/32"]}
    assert table(VPC, acl=[listed])["internet", "198.51.100.10", 2222].allowed
    assert not table(VPC, acl=[listed])[LOOPBACK, "198.51.100.10", 2222].allowed
    assert not table(VPC, acl=[{**listed, "cidrs": ["::/0"]}])["internet", "198.51.100.10", 2222].allowed


ANSWERED = "traceroute to 192.0.2.10 (192.0.2.10), 2 hops max, 46 byte packets\n 2  192.0.2.10  1.008 ms"
SILENT = ANSWERED.replace("192.0.2.10  1.008 ms", "*")


@pytest.mark.parametrize(
    ("answer", "allowed", "problem"),
    [
        (ANSWERED, True, ""),
        (SILENT, True, "no answer within 2 s"),
        ("", True, "no answer within 2 s"),
        (ANSWERED.replace(" 2  192.0.2.10", " 2  192.0.2.11"), True, "no answer within 2 s"),
        (SILENT, False, ""),
        (ANSWERED, False, f"it was answered: {ANSWERED[:80]!r}"),
    ],
)
def test_a_datagram_is_answered_one_hop_behind_the_router(answer: str, allowed: bool, problem: str) -> None:
    flow = Flow("rule", "internet", IPv4Address("192.0.2.10"), 5353, 53, allowed, ("vm1",), protocol="udp")
    assert verdict(flow, answer, "token") == problem


class Host:
    """A tenant's host that prints what it is told to, whatever it is asked."""

    def __init__(self, *outputs: str) -> None:
        self.outputs = list(outputs)

    def run(self, _script: str, **_options: object) -> SshCommandResult:
        return SshCommandResult("", 0, self.outputs.pop(0), "", 0.0)


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [("3", "4", ""), ("3", "3", "it was answered, but nothing arrived at vm1")],
)
def test_an_answered_datagram_has_to_arrive(before: str, after: str, problem: str) -> None:
    flow = Flow("rule", "internet", IPv4Address("192.0.2.10"), 5353, 53, True, ("vm1",), protocol="udp")
    asked = base64.b64encode(ANSWERED.encode()).decode()
    vm = SimpleNamespace(tenants={"vm1": Host(before, after), "internet": Host(asked)})
    assert attempt(vm, [flow]) == [problem]


def test_an_answer_that_was_to_be_refused_is_a_finding():
    flow = Flow("rule", "vm1", IPv4Address("192.0.2.99"), 7, 7, False)
    assert verdict(flow, "", "token") == ""
    assert "it was answered" in verdict(flow, "token", "token")


def test_an_outsider_must_be_on_a_public_or_private_network():
    inside = {"name": "x", "mac": "02:00:00:00:00:09", "device": "eth0", "address": "10.1.1.9/24"}
    with pytest.raises(
        UsageError, match=r"10.1.1.9/24 of \[\[outsider\]\] is on no public or private network"
    ):
        network.parse({**copy.deepcopy(ROUTER), "outsider": [inside]})
