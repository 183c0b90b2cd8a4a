"""The declared network: what is read, and what is refused with the table, the key and the value."""

from __future__ import annotations

import copy
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import UsageError
from harness import network

SHIPPED, VPC = (
    tomllib.loads((files("harness.network") / "shipped" / f"{name}.toml").read_text("utf-8"))
    for name in ("router", "vpc")
)


def test_the_shipped_network_is_read_by_name_and_by_path() -> None:
    by_name = network.load()
    by_path = network.load(Path(str(files("harness.network") / "shipped" / "router.toml")))
    assert by_name == by_path
    assert [nic.role for nic in by_name.nics] == ["guest", "control", "public"]
    assert str(by_name.control.address) == "169.254.12.34/16"
    assert by_name.rule_count == 14


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"type": "switch"}, "invalid type 'switch' (expected one of router, vpcrouter, dhcpsrvr, ilbvm)"),
    ({"colour": "red"}, "unknown colour"),
    ({"dns": "192.0.2.3"}, "invalid dns '192.0.2.3' (expected a list)"),
    ({"nic": []}, "a NIC with role 'control' is missing"),
    ({"nic": SHIPPED["nic"][:2]}, "[[public_address]] needs a NIC with role 'public'"),
    ({"nic": [*SHIPPED["nic"], SHIPPED["nic"][0]]}, "device of [[nic]] eth0 is there twice"),
    ({"forward": [{"public": "192.0.2.10"}]}, "[[forward]] number 1: public_ports is missing"),
    (
        {"forward": [{"public": "192.0.2.99", "public_ports": 1, "private": "10.1.1.5"}]},
        "192.0.2.99 of [[forward]] is no [[public_address]]",
    ),
    (
        {"forward": [{"public": "192.0.2.10", "public_ports": 1, "private": "10.9.9.9"}]},
        "10.9.9.9 lies in no guest network or tier",
    ),
    (
        {"forward": [{"public": "192.0.2.10", "public_ports": "1-3", "private": "10.1.1.5",
                      "private_ports": 1}]},
        "1:3 and 1:1 are ranges of different lengths",
    ),
    ({"ingress": [{"public": "192.0.2.10", "ports": 70000}]}, "invalid ports 70000: 70000 is no port"),
    ({"ingress": [{"public": "192.0.2.10", "ports": "9-1"}]}, "9-1 ends before it begins"),
    ({"ingress": [{"public": "192.0.2.10", "cidr": "x"}]}, "[[ingress]] number 1: unknown cidr"),
    ({"machine": [{"name": "a b", "mac": "x", "address": "1"}]}, "[[machine]] number 1: invalid name 'a b'"),
    ({"machine": [*SHIPPED["machine"]] * 2}, "MAC address 02:00:26:c3:00:02 is there twice"),
    ({"public_address": [{"address": "198.51.100.7"}]}, "198.51.100.7 lies in the network of no public NIC"),
    ({"vpn": {"public": "192.0.2.99", "pool": "10.1.2.1-10.1.2.8", "preshared_key": "k"}},
     "192.0.2.99 of [vpn] is no [[public_address]]"),
    ({"acl": [{"device": "eth9"}]}, "[[acl]] names 'eth9', which is no tier"),
    ({"public_address": [{"address": "192.0.2.300"}]}, "invalid address '192.0.2.300'"),
    ({"public_address": [{"address": "192.0.2.10", "source_nat": "yes"}]}, "invalid source_nat 'yes'"),
    ({"vpn": 1}, "invalid vpn 1 (expected a table)"),
    ({"route": {}}, "invalid route (expected tables: [[route]])"),
]  # fmt: skip


VPC_MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"nic": [*VPC["nic"][:2], *VPC["nic"][3:], {**VPC["nic"][2], "device": "eth5"}]},
     "the NICs are control, public, tier, tier, private; a starting vpcrouter has them in the order control, "
     "public, private, tier"),
    ({"type": "router", "acl": [], "route": []}, "a router has no NIC with role 'private' (eth2)"),
    ({"routed": True}, "with routed = true there is no NAT, and so no [[forward]]"),
    ({"as_number": 65001}, "as_number is for networks with routed = true"),
    ({"bgp_peer": [{"address": "192.0.2.1", "as_number": 1}]}, "[[bgp_peer]] needs as_number"),
    ({"ingress": [{"ports": 22}]}, "[[ingress]] needs public, unless routed = true"),
    ({"alias": [{"address": "10.1.2.5/24"}]}, "[[alias]] is for shared networks, and vpcrouter serves none"),
    ({"site_to_site": [{"public": "198.51.100.9", "peer": "192.0.2.1", "networks": [], "preshared_key": "k"}]},
     "198.51.100.9 of [site_to_site] is no [[public_address]]"),
    ({"acl": [{"device": "eth3", "cidrs": ["10.0.0.1/8"]}]}, "invalid cidrs '10.0.0.1/8'"),
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_a_mistake_is_one_line_with_table_key_and_value(mistake: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        network.parse({**copy.deepcopy(SHIPPED), **copy.deepcopy(mistake)})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("mistake", "message"), VPC_MISTAKES)
def test_a_mistake_about_a_vpc_is_one_line_with_its_reason(mistake: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        network.parse({**copy.deepcopy(VPC), **copy.deepcopy(mistake)})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_networks_of_a_vpc_are_what_it_says_or_what_its_tiers_cover() -> None:
    assert str(network.parse(copy.deepcopy(VPC)).all_inside) == "10.20.0.0/16"
    without = {key: value for key, value in VPC.items() if key != "cidr"}
    assert str(network.parse(copy.deepcopy(without)).all_inside) == "10.20.0.0/22"


def test_a_file_that_is_not_there_or_is_no_toml(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the network .*none.toml"):
        network.load(tmp_path / "none.toml")
    (tmp_path / "x.toml").write_text("a = = 1")
    with pytest.raises(UsageError, match="is no TOML"):
        network.load(tmp_path / "x.toml")
