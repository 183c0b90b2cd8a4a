"""What a declared network lets through: the yardstick of the proofs."""

from __future__ import annotations

import copy
import tomllib
from importlib.resources import files
from ipaddress import IPv4Address

import pytest

from bundle.errors import UsageError
from harness import network
from harness.attempts import verdict
from harness.network.flows import LOOPBACK, Flow, flows

ROUTER, VPC = (
    tomllib.loads((files("harness") / "networks" / f"{name}.toml").read_text()) for name in ("router", "vpc")
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
    deny = {"device": "eth3", "ports": 5432, "allowed": False}
    assert table(VPC)["web1", "10.20.2.50", 5432].allowed
    assert not table(VPC, acl=[deny, *VPC["acl"]])["web1", "10.20.2.50", 5432].allowed
    assert table(VPC, acl=[*VPC["acl"], deny])["web1", "10.20.2.50", 5432].allowed


def test_both_lists_on_the_way_must_allow():
    found = table(VPC)
    assert not found["db1", "10.20.1.50", 80].allowed  # the list of eth2 would let it in
    assert found["db1", "172.31.0.2", 80].allowed
    no_gateway = [acl for acl in VPC["acl"] if acl["device"] != "eth4"]
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
