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
from harness.guest.connection import Completed
from harness.network.flows import LOOPBACK, Flow, flows
from harness.traffic.attempts import attempt, verdict

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

    def run(self, _script: str, **_options: object) -> Completed:
        return Completed("", 0, self.outputs.pop(0), "", 0.0)


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
