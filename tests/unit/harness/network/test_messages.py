"""The model of the messages against what genuine servers serialise, key by key and type by type."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from harness.network import messages, wire
from tests.unit.harness.network.shapes import faults

CORPUS = {
    entry["name"]: entry["message"]
    for entry in map(
        json.loads,
        (Path(__file__).parents[3] / "data" / "messages-corpus.jsonl").read_text("utf-8").splitlines(),
    )
}


@pytest.mark.parametrize("name", CORPUS)
def test_every_message_of_the_corpus_is_of_the_model(name: str) -> None:
    assert faults(CORPUS[name]) == []


def test_the_corpus_has_every_kind_of_message() -> None:
    assert {message["type"] for message in CORPUS.values()} == set(messages.kinds())


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("ips", lambda m: m.pop("delete_from_processed_cache"), "delete_from_processed_cache"),
        ("ips", lambda m: m["ip_address"][0].update(mtu="1500"), "ips.ip_address[0].mtu"),
        ("ips", lambda m: m["ip_address"][0].update(add=1), "ips.ip_address[0].add"),
        ("ips", lambda m: m["ip_address"][0].pop("netmask"), "ips.ip_address[0].netmask: missing"),
        ("gn", lambda m: m.update(cidr=24), "guestnetwork.cidr"),
        ("acl", lambda m: m["ingress_rules"][0].update(cidr=["::/0"]), "networkacl.ingress_rules[0].cidr"),
        ("fw-ingress", lambda m: m["rules"][0].update(type=""), "firewallrules.rules[0].type: unknown"),
        ("fw-ingress", lambda m: m["rules"][0].update(source_cidr_list="x"), "source_cidr_list: no list"),
        ("fw6", lambda m: m["rules"][0].pop("guest_ip6_cidr"), "guest_ip6_cidr: missing"),
        ("dhcp", lambda m: m.update(dns_addresses=None), "dhcpentry.dns_addresses: None"),
        ("vmdata", lambda m: m["vm_metadata"][0].pop(), "vm_metadata[0]: 2 items instead of 3"),
        ("monitor-refresh", lambda m: m["health_checks_config"].update(a=1), "health_checks_config.a: 1"),
        ("bgp", lambda m: m["peers"][0]["details"].update(EBGP_MultiHop=2), "details.EBGP_MultiHop: 2"),
    ],
)
def test_a_message_of_another_shape_is_told_by_its_place(name: str, change: Any, fault: str) -> None:
    message = copy.deepcopy(CORPUS[name])
    change(message)
    (found,) = faults(message)
    assert fault in found


@pytest.mark.parametrize(
    ("release", "has"),
    [
        ("4.14", False), ("4.19.1", False), ("4.19.2", True), ("4.19", True), ("4.20.0", False),
        ("4.20.1", True), ("4.20.1.0", True), ("4.20", True), ("4.21.0", True), ("4.22.0.0-SNAPSHOT", True),
    ],
)  # fmt: skip
def test_what_older_branches_got_afterwards_is_known_by_the_branch(release: str, has: bool) -> None:
    assert wire.reaches(release, ("4.19.2", "4.20.1")) is has


def test_a_key_is_left_out_for_releases_that_do_not_have_it() -> None:
    tier = messages.GuestNetwork(
        add=True, mac_address="02:00:5a:00:00:07", device="eth2", router_guest_ip="10.1.1.1",
        router_guest_netmask="255.255.255.0", router_guest_gateway="10.1.1.1", cidr="24",
        dns="192.0.2.53,192.0.2.54", domain_name="cs1.example", is_vr_guest_gateway=True, network_id=204, mtu=1450,
    )  # fmt: skip
    ends = {"type": "guestnetwork", "delete_from_processed_cache": False}
    assert {**tier.wire("4.14"), **ends} == CORPUS["gn-4.14"]
    assert {**tier.wire("4.22"), **ends} == CORPUS["gn"]
    assert set(tier.wire("4.20")) == set(tier.wire("4.22")) - {"network_id"}
