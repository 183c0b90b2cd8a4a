"""Routes into the operator's networks: the boot's comparison of networks against Python's, and the agent's own."""

from __future__ import annotations

import ipaddress
import random
import subprocess

import pytest

from tests.guest.agent.inside import agent_module
from tests.unit.payload.guest import SYSTEMVM

SETUP = SYSTEMVM / "debian/opt/cloud/bin/setup"
route_to = agent_module("shares").route_to

PRELUDE = f"""
set -Eeuo pipefail
SETUP_DIR={SETUP}
declare -A CMDLINE=()
log() {{ echo "log: $*"; }}
. "$SETUP_DIR/inner.sh"
"""


def bash(script: str) -> list[str]:
    done = subprocess.run(["bash", "-c", PRELUDE + script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def inner(**words: str) -> list[str]:
    rows = {"type": "secstorage", "eth1ip": "10.0.0.30", "eth1mask": "255.255.255.0", "localgw": "10.0.0.1"}
    rows.update({key.replace("_", "."): value for key, value in words.items()})
    settings = " ".join(f"[{key}]={value}" for key, value in rows.items() if value)
    return bash(f"CMDLINE=({settings}); inner_routes")


def test_a_network_is_reached_directly_exactly_when_an_own_one_holds_it() -> None:
    chance = random.Random(20)
    cases, script = [], ""
    for _ in range(300):
        own = ipaddress.IPv4Interface((0x0A000000 | chance.getrandbits(12), chance.randint(20, 31)))
        other = ipaddress.IPv4Interface((0x0A000000 | chance.getrandbits(12), chance.randint(18, 32)))
        cases.append((own, other))
        script += (
            f"CMDLINE=([eth3ip]={own.ip} [eth3mask]={own.netmask}); "
            f"connected_device {other} || echo none; parse_network {other}; print_network\n"
        )
    found = bash(script)
    for (own, other), device, network in zip(cases, found[::2], found[1::2], strict=True):
        assert device == ("eth3" if other.network.subnet_of(own.network) else "none"), (own, other)
        assert network == str(other.network)
    assert {"eth3", "none"} == set(found[::2])


@pytest.mark.parametrize(
    "word", ["", "10.0.0", "10.0.0.256", "10.0.0.0/33", "10.0.0.0/", "host", "::1", "1.2.3.4;x", "-1.2.3.4"]
)
def test_what_is_no_network_is_none(word: str) -> None:
    assert bash(f"parse_network '{word}' && echo yes || echo no") == ["no"]


def test_networks_that_are_connected_get_no_route_and_others_one_through_their_gateway() -> None:
    assert inner(mgmtcidr="10.0.0.0/24,10.8.0.0/14,10.0.0.64/26") == [
        "route replace 10.8.0.0/14 via 10.0.0.1 dev eth1"
    ]
    wide = {"eth1mask": "255.255.252.0", "eth1ip": "10.0.1.30"}
    assert inner(mgmtcidr="10.0.0.0/22,10.0.2.0/24", **wide) == []
    storage = {"eth3ip": "192.168.16.192", "eth3mask": "255.255.255.0"}
    assert inner(mgmtcidr="10.0.0.0/24,192.168.16.0/24", **storage) == []


def test_servers_and_resolvers_outside_are_reached_through_the_management_gateway() -> None:
    words = {
        "host": "10.0.5.10,mgmt.example@10.0.0.5",
        "internaldns1": "10.7.0.2",
        "internaldns2": "10.0.0.2",
    }
    assert inner(**words) == [
        "route replace 10.0.5.10/32 via 10.0.0.1 dev eth1",
        "route replace 10.7.0.2/32 via 10.0.0.1 dev eth1",
    ]
    # On a router host= is the baremetal server's, which is the router's own business.
    assert inner(type="router", **words) == []


def test_storage_outside_is_reached_through_the_storage_gateway_or_else_the_management_one() -> None:
    words = {"secondaryStorageServerAddress": "172.16.1.9,10.0.0.6,nas.example"}
    assert inner(**words) == ["route replace 172.16.1.9/32 via 10.0.0.1 dev eth1"]
    storage = {"eth3ip": "172.16.0.9", "eth3mask": "255.255.255.0", "storagegateway": "172.16.0.1"}
    assert inner(**words, **storage) == ["route replace 172.16.1.9/32 via 172.16.0.1 dev eth3"]


def test_what_cannot_be_a_route_is_told_and_the_others_are_made() -> None:
    assert inner(mgmtcidr="0.0.0.0/0,10.9/16,10.9.0.0/16") == [
        "log: no route to 0.0.0.0/0: it would take the place of the default route",
        "log: no route to '10.9/16': it is no IPv4 address or network",
        "route replace 10.9.0.0/16 via 10.0.0.1 dev eth1",
    ]
    assert inner(mgmtcidr="10.9.0.0/16", localgw="10.1.0.1") == [
        "log: no route to 10.9.0.0/16: its gateway '10.1.0.1' is in none of the networks of this VM"
    ]


@pytest.mark.parametrize(
    ("address", "more", "way"),
    [
        ("10.0.0.6", {}, None),
        ("172.16.1.9", {}, ("10.0.0.1", "eth1")),
        ("172.16.0.200", {"storagegateway": "172.16.0.1"}, None),
        ("172.16.1.9", {"storagegateway": "172.16.0.1"}, ("172.16.0.1", "eth3")),
        ("172.16.1.9", {"storagegateway": "192.168.0.1"}, ("10.0.0.1", "eth1")),
        ("172.16.1.9", {"localgw": ""}, None),
        ("127.0.0.1", {}, None),
        ("2001:db8::1", {}, None),
    ],
)
def test_the_agent_leads_a_mount_to_its_server(
    address: str, more: dict[str, str], way: tuple[str, str] | None
) -> None:
    values = {
        "eth0ip": "0.0.0.0", "eth1ip": "10.0.0.30", "eth1mask": "255.255.255.0", "localgw": "10.0.0.1",
        "eth3ip": "172.16.0.9", "eth3mask": "255.255.255.0",
    }  # fmt: skip
    assert route_to({**values, **more}, address) == way
