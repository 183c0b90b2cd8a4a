"""Features of one network in pairs: no rule of the one makes the other dead, in whichever order the messages come.

Each feature is a list of messages and a proof by real traffic. The features are sent in groups of four, made so that
every pair of them is in a group, and every proof has to hold.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import NamedTuple

import pytest

from tests.guest.rules.bags import balancer, firewall_rule, forward_rule, public_ip
from tests.guest.rules.test_field import REMOTE, SITE, with_vpn_programs
from tests.guest.rules.test_traffic import EGRESS_ALLOWED, seen_from_outside
from tests.guest.rules.testbed import RouterTestbed, Space, eventually, fetch
from tests.guest.rules.tiers import ABOUT_GATEWAY, GATEWAY_MAC, acl, allow, tier, tier_mac, vm_in

VM, SECOND = "02:00:26:c3:00:02", "02:00:26:c3:00:03"


class Scene(NamedTuple):
    """A router, a machine of its own with a page on port 80, and a client beside that."""

    lab: RouterTestbed
    vm: Space
    client: Space


class Feature(NamedTuple):
    """What is sent, and what shows that it is in force."""

    messages: list[tuple[str, dict]]
    proof: Callable[[Scene], None]


def outside_gets(url: str, answer: str = "vm1") -> Callable[[Scene], None]:
    def proof(scene: Scene) -> None:
        assert eventually(lambda: fetch(scene.lab.outside, url) == answer, 3), url

    return proof


def client_gets(url: str, answer: str = "vm1", *options: str) -> Callable[[Scene], None]:
    def proof(scene: Scene) -> None:
        assert eventually(lambda: fetch(scene.client, url, *options) == answer, 3), url

    return proof


def client_comes_from_the_source_nat_address(scene: Scene) -> None:
    assert seen_from_outside(scene.lab, scene.client) == "192.0.2.10"


def key_exchange_arrives(scene: Scene) -> None:
    """A datagram to the port of IKE reaches a program on the router."""
    program = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('192.0.2.10', 500)); s.settimeout(3);"
    program += "print('ready', flush=True); print(s.recv(9).decode())"
    with scene.lab.router.background("python3", "-c", program, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        say = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'ike', ('192.0.2.10', 500))"
        scene.lab.outside.run("python3", "-c", say)
        assert server.stdout.readline() == "ike\n"


def partner_answers(scene: Scene) -> None:
    assert eventually(lambda: fetch(scene.vm, "http://172.30.0.9:8000/") == "partner", 3)


def name_resolves(scene: Scene) -> None:
    answer = scene.client.run("busybox", "nslookup", "vm1.cs1.cloud.internal", "10.1.1.1", check=False).stdout
    assert "10.1.1.50" in answer


def closed_to_the_outside(scene: Scene) -> None:
    for port in (22, 53, 3922, 8080):
        done = scene.lab.outside.sh(f"busybox nc -w 1 192.0.2.10 {port} </dev/null", check=False)
        assert done.status != 0, f"port {port} is open"


def egress(**more) -> tuple[str, dict]:
    return "firewallrules", {"rules": [firewall_rule(0, "", 1, **{**EGRESS_ALLOWED, **more})]}


def opened(number: int, address: str, port: int) -> tuple[str, dict]:
    return "firewallrules", {"rules": [firewall_rule(number, address, port)]}


def row(folder: str, name: str, text: str) -> tuple[str, dict]:
    return "vmdata", {"vm_ip_address": "10.1.1.60", "vm_metadata": [[folder, name, text]]}


FORWARD = ("forwardrules", {"rules": [forward_rule("192.0.2.10", 8000, "10.1.1.50", 80)]})
NARROW = forward_rule("192.0.2.10", 8200, "10.1.1.50", 80)
RESERVED = {"mac_address": VM, "ipv4_address": "10.1.1.50", "host_name": "vm1", "default_gateway": "10.1.1.1"}
NAT = {"revoke": False, "source_ip_address": "192.0.2.20", "source_port_range": "0:0"}
ASK = ("-H", "DomU_Request: send_my_password")
ROUTER = {
    "forward": Feature([opened(5, "192.0.2.10", 8000), FORWARD], outside_gets("http://192.0.2.10:8000/")),
    "hairpin": Feature([opened(5, "192.0.2.10", 8000), FORWARD], client_gets("http://192.0.2.10:8000/")),
    "sources": Feature(
        [
            opened(6, "192.0.2.10", 8200),
            ("forwardrules", {"rules": [{**NARROW, "source_cidr_list": "192.0.2.0/24"}]}),
        ],
        outside_gets("http://192.0.2.10:8200/"),
    ),
    "balancer": Feature(
        [
            opened(7, "192.0.2.10", 8100),
            ("loadbalancer", {"rules": [balancer(("192.0.2.10", 8100, ["10.1.1.50:80"]))]}),
        ],
        outside_gets("http://192.0.2.10:8100/"),
    ),
    "static-nat": Feature(
        [
            ("ips", {"ip_address": [public_ip("192.0.2.20", one_to_one_nat=True)]}),
            ("staticnatrules", {"rules": [{**NAT, "destination_ip_address": "10.1.1.50"}]}),
            opened(8, "192.0.2.20", 80),
        ],
        outside_gets("http://192.0.2.20/"),
    ),
    "source-nat": Feature([egress()], client_comes_from_the_source_nat_address),
    "vpn": Feature([("remoteaccessvpn", REMOTE)], key_exchange_arrives),
    "closed": Feature([opened(9, "192.0.2.10", 9)], closed_to_the_outside),
    "names": Feature([("dhcpentry", RESERVED)], name_resolves),
    "metadata": Feature(
        [row("metadata", "about", "mine")], client_gets("http://10.1.1.1/latest/about", "mine")
    ),
    "password": Feature(
        [("vmpassword", {"ip_address": "10.1.1.60", "password": "s3cret"})],
        client_gets("http://10.1.1.1:8080/", "s3cret", *ASK),
    ),
}


@pytest.fixture
def router(lab):
    """A router with two machines."""
    with_vpn_programs(lab)
    vm, client = lab.vm(VM, "10.1.1.50"), lab.vm(SECOND, "10.1.1.60")
    lab.site(vm, "vm1")
    return Scene(lab, vm, client)


def groups(features: Iterable[str], size: int = 4) -> list[tuple[str, ...]]:
    """Return groups of features of which every pair is in one: each takes what covers most pairs that no group has."""
    names = sorted(features)
    left = set(combinations(names, 2))
    found = []
    while left:
        group = list(min(left))
        while len(group) < size:
            rest = [name for name in names if name not in group]
            group.append(max(rest, key=lambda name: sum(tuple(sorted((name, one))) in left for one in group)))
        left -= set(combinations(sorted(group), 2))
        found.append(tuple(group))
    return found


def send_together(scene, features):
    scene.lab.aggregate(*[message for feature in features for message in feature.messages])
    for feature in features:
        feature.proof(scene)


@pytest.mark.parametrize("group", groups(ROUTER), ids="+".join)
def test_features_of_a_router_leave_each_other_alone(router, group):
    send_together(router, [ROUTER[name] for name in group])


def test_all_features_of_a_router_together_in_either_order(router):
    send_together(router, list(ROUTER.values()))
    send_together(router, list(ROUTER.values())[::-1])


GATEWAY = {
    "gateway": "172.31.0.2",
    "is_private_gateway": True,
    "vif_mac_address": GATEWAY_MAC,
    "nic_dev_id": 5,
}
ROUTE = {"revoke": False, "network": "172.30.0.0/16", "ip_address": "172.31.0.1", "gateway": "172.31.0.2"}
LISTS = ("networkacl", acl(1, ingress=[allow()], egress=[allow()]))
TIERS = {
    "forward": Feature(
        [("forwardrules", {"rules": [forward_rule("192.0.2.10", 8000, "10.20.1.50", 80)]})],
        outside_gets("http://192.0.2.10:8000/"),
    ),
    "hairpin": Feature(
        [("forwardrules", {"rules": [forward_rule("192.0.2.10", 8300, "10.20.1.50", 80)]})],
        client_gets("http://192.0.2.10:8300/"),
    ),
    "static-nat": Feature(
        [
            ("ips", {"ip_address": [public_ip("192.0.2.20", nic_dev_id=1, one_to_one_nat=True)]}),
            ("staticnatrules", {"rules": [{**NAT, "destination_ip_address": "10.20.1.50"}]}),
        ],
        outside_gets("http://192.0.2.20/"),
    ),
    "balancer": Feature(
        [("loadbalancer", {"rules": [balancer(("192.0.2.10", 8100, ["10.20.1.50:80"]))]})],
        outside_gets("http://192.0.2.10:8100/"),
    ),
    "between-tiers": Feature([LISTS], client_gets("http://10.20.1.50/")),
    "private-gateway": Feature(
        [
            ("ips", {"ip_address": [public_ip("172.31.0.1", **GATEWAY)]}),
            (
                "networkacl",
                {**ABOUT_GATEWAY, "device": "eth5", "ingress_rules": [allow()], "egress_rules": []},
            ),
            ("staticroutes", {"routes": [ROUTE]}),
        ],
        partner_answers,
    ),
    "site-vpn": Feature([("site2sitevpn", {**SITE, "peer_gateway_ip": "192.0.2.1"})], key_exchange_arrives),
    "source-nat": Feature([LISTS], client_comes_from_the_source_nat_address),
}


@pytest.fixture
def tiers(vpc):
    """The router of a VPC with a machine in each of two tiers, and a partner behind a private gateway."""
    with_vpn_programs(vpc)
    for number in (1, 2):
        vpc.plug_guest(f"eth{number + 1}", tier_mac(number), bridge=f"tier{number}")
    opened = {"ingress": [allow()], "egress": [allow()]}
    vpc.aggregate(
        *[("guestnetwork", tier(number)) for number in (1, 2)],
        *[("networkacl", acl(number, **opened)) for number in (1, 2)],
    )
    partner = vpc.new_space()
    vpc.cable(partner, "eth0", "eth5", GATEWAY_MAC)
    partner.sh(
        "ip address add 172.31.0.2/24 dev eth0; ip address add 172.30.0.9/32 dev lo; ip link set eth0 up"
    )
    partner.sh("ip route add 10.20.0.0/16 via 172.31.0.1")
    vpc.site(partner, "partner", port=8000, address="172.30.0.9")
    vm, client = vm_in(vpc, 1), vm_in(vpc, 2)
    vpc.site(vm, "vm1")
    return Scene(vpc, vm, client)


@pytest.mark.parametrize("group", groups(TIERS), ids="+".join)
def test_features_of_a_vpc_leave_each_other_alone(tiers, group):
    send_together(tiers, [TIERS[name] for name in group])


@pytest.mark.parametrize("features", [ROUTER, TIERS], ids=["router", "vpc"])
def test_every_pair_of_features_is_in_a_group(features):
    covered = {pair for group in groups(features) for pair in combinations(sorted(group), 2)}
    assert covered == set(combinations(sorted(features), 2))
