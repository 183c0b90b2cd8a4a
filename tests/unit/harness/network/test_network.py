"""The declared network, its databags and the aggregate file, against the examples of the contract."""

from __future__ import annotations

import base64
import copy
import json
import shutil
import subprocess
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import CheckFailed, UsageError
from harness import network
from harness.network.haproxy import configuration

SHIPPED = tomllib.loads((files("harness.network") / "shipped" / "router.toml").read_text())


def bag_of(stem: str, document: dict[str, Any] = SHIPPED, number: int = 0) -> dict[str, Any]:
    declared = network.parse(copy.deepcopy(document))
    return [bag.content for bag in network.start_bags(declared) if bag.stem == stem][number]


def test_the_shipped_network_is_read_by_name_and_by_path() -> None:
    by_name = network.load()
    by_path = network.load(Path(str(files("harness.network") / "shipped" / "router.toml")))
    assert by_name == by_path
    assert [nic.role for nic in by_name.nics] == ["guest", "control", "public"]
    assert str(by_name.control.address) == "169.254.12.34/16"
    assert by_name.rule_count == 14


def test_a_port_forward_has_the_keys_of_the_server() -> None:
    bag = bag_of("forwarding_rules")
    assert bag["type"] == "forwardrules"
    assert bag["rules"][:2] == [
        {
            "revoke": False,
            "protocol": protocol,
            "source_ip_address": "192.0.2.10",
            "source_port_range": public,
            "destination_ip_address": "10.1.1.50",
            "destination_port_range": private,
        }
        for protocol, public, private in (("tcp", "2222:2222", "22:22"), ("udp", "5353:5353", "53:53"))
    ]


def test_a_public_address_has_the_keys_of_the_server() -> None:
    assert bag_of("ip_associations")["ip_address"][1] == {
        "public_ip": "192.0.2.20",
        "source_nat": False,
        "add": True,
        "one_to_one_nat": False,
        "first_i_p": False,
        "gateway": "192.0.2.1",
        "netmask": "255.255.255.0",
        "vif_mac_address": "1e:00:aa:00:00:04",
        "nic_dev_id": 2,
        "new_nic": False,
        "nw_type": "public",
        "is_private_gateway": False,
        "mtu": 1500,
    }


def test_an_ingress_rule_has_the_keys_of_the_server() -> None:
    assert bag_of("firewall_rules", number=2)["rules"][0] == {
        "id": 101,
        "src_ip": "192.0.2.10",
        "protocol": "tcp",
        "src_port_range": [2222, 2222],
        "revoked": False,
        "already_added": False,
        "source_cidr_list": ["0.0.0.0/0"],
        "dest_cidr_list": [],
        "purpose": "Firewall",
        "traffic_type": "Ingress",
        "default_egress_policy": False,
        "type": "",
    }


def test_the_default_egress_policy_comes_first() -> None:
    first = network.reapply_bags(network.load())[0].content["rules"][0]
    assert (first["type"], first["traffic_type"], first["default_egress_policy"]) == (
        "System",
        "Egress",
        True,
    )
    denied = bag_of("firewall_rules", {**SHIPPED, "egress_default": "deny"})["rules"][0]
    assert denied["default_egress_policy"] is False


@pytest.mark.parametrize(("default", "names_what_may_leave"), [("allow", True), ("deny", False)])
def test_an_egress_rule_says_what_departs_from_the_default(default: str, names_what_may_leave: bool) -> None:
    (rule,) = bag_of("firewall_rules", {**SHIPPED, "egress_default": default}, number=1)["rules"]
    assert (rule["traffic_type"], rule["src_port_range"]) == ("Egress", [7, 7])
    assert rule["default_egress_policy"] is names_what_may_leave


def test_a_private_gateway_has_its_address_and_its_list() -> None:
    bags = [bag.content for bag in network.reapply_bags(network.load("vpc"))]
    addresses = [row for bag in bags if bag["type"] == "ips" for row in bag["ip_address"]]
    (gateway,) = [row for row in addresses if row["is_private_gateway"]]
    assert (gateway["public_ip"], gateway["vif_mac_address"], gateway["source_nat"]) == (
        "172.31.0.1",
        "06:00:5b:1c:00:04",
        False,
    )
    lists = {bag["device"]: bag["private_gateway_acl"] for bag in bags if bag["type"] == "networkacl"}
    assert lists == {"eth2": False, "eth3": False, "eth4": True}


def test_a_dhcp_entry_has_the_keys_of_the_server() -> None:
    assert bag_of("vm_dhcp_entry") == {
        "host_name": "vm1",
        "mac_address": "02:00:26:c3:00:02",
        "ipv4_address": "10.1.1.50",
        "default_gateway": "10.1.1.1",
        "default_entry": True,
        "remove": False,
        "type": "dhcpentry",
    }


def test_user_data_travels_in_base64_and_metadata_as_it_is() -> None:
    bag = bag_of("vm_metadata")
    assert bag["vm_ip_address"] == "10.1.1.50"
    first, *others = bag["vm_metadata"]
    assert first[:2] == ["userdata", "user-data"]
    assert base64.b64decode(first[2]) == b"#cloud-config\nhostname: vm1\n"
    assert ["metadata", "service-offering", "Small Instance"] in others


def test_a_load_balancer_has_the_keys_and_lines_of_the_server() -> None:
    bag = bag_of("load_balancer")
    assert bag["type"] == "loadbalancer"
    (rule,) = bag["rules"]
    lines = rule.pop("configuration")
    assert rule == {
        "tmp_cfg_file_path": "/etc/haproxy/",
        "tmp_cfg_file_name": "haproxy.cfg.new",
        "add_rules": ["192.0.2.20:80:"],
        "remove_rules": [],
        "stat_rules": ["169.254.12.34:8081:0/0:,"],
        "router_ip": "169.254.12.34",
    }
    start = lines.index("listen 192_0_2_20-80")
    assert lines[start : start + 6] == [
        "listen 192_0_2_20-80",
        "\tbind 192.0.2.20:80",
        "\tmode http",
        "\toption httpclose",
        "\tbalance roundrobin",
        "\tserver 192_0_2_20-80_0 10.1.1.50:80 check",
    ]
    assert "\tstats socket /run/haproxy/admin.sock" in lines
    assert "\tmaxpipes 1024" in lines


def test_a_port_other_than_80_is_balanced_as_tcp() -> None:
    document = {
        **SHIPPED,
        "load_balancer": [{"public": "192.0.2.20", "port": 443, "members": ["10.1.1.50:443"]}],
    }
    lines = bag_of("load_balancer", document)["rules"][0]["configuration"]
    start = lines.index("listen 192_0_2_20-443")
    assert lines[start + 2] == "\tbalance roundrobin"


@pytest.mark.parametrize("rules", [0, 1])
def test_haproxy_accepts_the_configuration(tmp_path: Path, rules: int) -> None:
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    assert program, "the Debian package haproxy is missing: run 'make machine'"
    declared = network.load()
    lines = configuration(declared.load_balancers[:rules], declared.control.address.ip)
    assert any("listen vmops" in line for line in lines) == (rules == 0)
    (tmp_path / "haproxy.cfg").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [program, "-c", "-f", str(tmp_path / "haproxy.cfg")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def vpc() -> dict[str, Any]:
    tiers = [
        {"device": f"eth{n}", "role": "tier", "address": f"10.20.{n}.1/24", "mac": f"02:00:00:00:00:{n:02x}"}
        for n in range(2, 13)
    ]
    return {
        "name": "vpc",
        "type": "vpcrouter",
        "domain": "cs2.cloud.internal",
        "dns": ["192.0.2.53"],
        "nic": [
            {"device": "eth0", "role": "control", "address": "169.254.20.5/16", "mac": "0e:00:a9:fe:14:05"},
            {"device": "eth1", "role": "public", "address": "198.51.100.10/24", "mac": "1e:00:aa:00:00:05"},
            *tiers,
        ],
        "public_address": [{"address": "198.51.100.10", "source_nat": True}, {"address": "198.51.100.11"}],
        "static_nat": [{"public": "198.51.100.11", "private": "10.20.12.9"}],
        "acl": [
            {"device": "eth2", "ports": 22},
            {"device": "eth2", "direction": "egress", "protocol": "all", "allowed": False},
        ],
        "route": [{"network": "172.30.0.0/16", "gateway": "172.31.0.1", "address": "172.31.0.2"}],
        "egress": [{"protocol": "udp", "ports": "53-54"}],
        "vpn": {
            "public": "198.51.100.10",
            "pool": "10.1.2.1-10.1.2.8",
            "preshared_key": "k",
            "users": {"ann": "p1"},
        },
    }


def test_a_vpc_with_eleven_tiers_is_set_up_tier_by_tier() -> None:
    declared = network.parse(vpc())
    bags = network.start_bags(declared)
    tiers = [bag.content for bag in bags if bag.stem == "guest_network"]
    assert [tier["device"] for tier in tiers] == [f"eth{n}" for n in range(2, 13)]
    assert tiers[0] == {
        "add": True,
        "mac_address": "02:00:00:00:00:02",
        "device": "eth2",
        "router_guest_ip": "10.20.2.1",
        "router_guest_netmask": "255.255.255.0",
        "router_guest_gateway": "10.20.2.1",
        "cidr": "24",
        "dns": "192.0.2.53",
        "domain_name": "cs2.cloud.internal",
        "is_vr_guest_gateway": True,
        "mtu": 1500,
        "type": "guestnetwork",
    }
    assert [bag.stem for bag in network.reapply_bags(declared)] == [
        "firewall_rules", "firewall_rules", "ip_associations", "staticnat_rules",
        "remote_access_vpn", "vpn_user_list", "network_acl", "static_routes",
    ]  # fmt: skip


def test_an_access_list_has_the_keys_of_the_server() -> None:
    assert bag_of("network_acl", vpc()) == {
        "device": "eth2",
        "mac_address": "02:00:00:00:00:02",
        "private_gateway_acl": False,
        "nic_ip": "10.20.2.1",
        "nic_netmask": "24",
        "ingress_rules": [
            {"type": "tcp", "first_port": 22, "last_port": 22, "cidr": "0.0.0.0/0", "allowed": True}
        ],
        "egress_rules": [{"type": "all", "cidr": "0.0.0.0/0", "allowed": False}],
        "type": "networkacl",
    }


def test_static_nat_marks_its_address() -> None:
    assert [row["one_to_one_nat"] for row in bag_of("ip_associations", vpc())["ip_address"]] == [False, True]
    assert bag_of("staticnat_rules", vpc())["rules"] == [
        {
            "revoke": False,
            "source_ip_address": "198.51.100.11",
            "source_port_range": "0:0",
            "destination_ip_address": "10.20.12.9",
        }
    ]


def test_the_aggregate_file_is_the_one_of_the_contract() -> None:
    bag = network.Databag("forwarding_rules", {"rules": [], "type": "forwardrules"})
    gone = network.Databag("monitor_service", {"type": "monitorservice"}, delete_from_processed_cache=True)
    made = network.aggregate([bag, gone], "7f")
    assert made.path == "/var/cache/cloud/VR-7f.cfg"
    assert made.command == "/opt/cloud/bin/vr_cfg.sh -c /var/cache/cloud/VR-7f.cfg"
    assert made.text == (
        "#Apache CloudStack Virtual Router Config File\n"
        "<version>\n1.0\n</version>\n"
        "<file>\n/var/cache/cloud/forwarding_rules.json.7f-0\n"
        '{"rules":[],"type":"forwardrules","delete_from_processed_cache":false}\n'
        "</file>\n"
        "<script>\n/opt/cloud/bin/update_config.py forwarding_rules.json.7f-0\n</script>\n"
        "<file>\n/var/cache/cloud/monitor_service.json.7f-1\n"
        '{"type":"monitorservice","delete_from_processed_cache":true}\n'
        "</file>\n"
        "<script>\n/opt/cloud/bin/update_config.py monitor_service.json.7f-1 false\n</script>\n"
    )
    assert made.kept == ("forwarding_rules.json.7f-0",)


def test_every_databag_is_one_line_with_its_flag() -> None:
    for bag in network.start_bags(network.parse(vpc())):
        text = bag.text()
        assert "\n" not in text
        assert json.loads(text)["delete_from_processed_cache"] is False
        assert json.loads(text)["type"]


class Answer:
    def __init__(self, status: int = 0, stdout: str = "", stderr: str = "") -> None:
        self.status, self.stdout, self.stderr, self.seconds = status, stdout, stderr, 0.5


class Router:
    """Stands in for a router: remembers what it is sent and answers what the test says."""

    name = "r-1-VM"

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.files: dict[str, bytes] = {}
        self.commands: list[str] = []

    def run(self, command: str, **_: object) -> Answer:
        self.commands.append(command)
        return self.answers.pop(0)

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        self.files[path] = data


def test_rules_are_sent_applied_and_looked_for() -> None:
    router = Router(Answer(), Answer())
    bags = network.reapply_bags(network.load())
    assert network.apply(router, bags, "7f").bags == len(bags)
    assert list(router.files) == ["/var/cache/cloud/VR-7f.cfg"]
    assert router.commands[0] == "/opt/cloud/bin/vr_cfg.sh -c /var/cache/cloud/VR-7f.cfg"


def test_a_swallowed_failure_is_found_out() -> None:
    router = Router(Answer(), Answer(stdout="load_balancer.json.7f-4\n"))
    with pytest.raises(CheckFailed, match=r"r-1-VM: load_balancer\.json\.7f-4 was not applied although"):
        network.apply(router, network.reapply_bags(network.load()), "7f")


def test_a_reported_failure_names_the_last_line() -> None:
    router = Router(Answer(status=1, stderr="a\nKeyError: traffic_type\n"))
    with pytest.raises(CheckFailed, match="status 1: KeyError: traffic_type"):
        network.apply(router, network.reapply_bags(network.load()), "7f")


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
    ({"acl": [{"device": "eth9"}]}, "[[acl]] names 'eth9', which is no tier"),
    ({"public_address": [{"address": "192.0.2.300"}]}, "invalid address '192.0.2.300'"),
    ({"public_address": [{"address": "192.0.2.10", "source_nat": "yes"}]}, "invalid source_nat 'yes'"),
    ({"vpn": 1}, "invalid vpn 1 (expected a table)"),
    ({"route": {}}, "invalid route (expected tables: [[route]])"),
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_a_mistake_is_one_line_with_table_key_and_value(mistake: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        network.parse({**copy.deepcopy(SHIPPED), **copy.deepcopy(mistake)})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["router", "vpc"])
def test_every_shipped_network_makes_sense_and_sends_something(name: str) -> None:
    declared = network.load(name)
    assert declared.rule_count > 3
    assert len(network.start_bags(declared)) > len(network.reapply_bags(declared))


def test_a_file_that_is_not_there_or_is_no_toml(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the network .*none.toml"):
        network.load(tmp_path / "none.toml")
    (tmp_path / "x.toml").write_text("a = = 1")
    with pytest.raises(UsageError, match="is no TOML"):
        network.load(tmp_path / "x.toml")
