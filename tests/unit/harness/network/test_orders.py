"""What is sent when: the order, the file form and the content, release by release."""

from __future__ import annotations

import base64
import copy
import json
import shutil
import subprocess
import tomllib
from dataclasses import replace
from importlib.resources import files
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from harness import network
from harness.network import Direct, Orders, Plug, Together
from harness.network.haproxy import configuration
from harness.network.transport import Step
from tests.unit.harness.network.shapes import faults

SHIPPED = sorted(file.name[:-5] for file in (files("harness.network") / "shipped").iterdir())
RELEASES = ("4.14.0", "4.15", "4.16", "4.17", "4.18", "4.19.1", "4.19", "4.20.0", "4.20", "4.21", "4.22")
VERSION = ("Cloudstack Release 4.22.0", "ab12")
TIER = "guest_network"


def document(name: str = "router") -> dict[str, Any]:
    return tomllib.loads((files("harness.network") / "shipped" / f"{name}.toml").read_text("utf-8"))


def orders(name: str = "router", release: str = "4.22", **tables: object) -> Orders:
    declared = network.parse({**document(name), **copy.deepcopy(tables)})
    return Orders(declared, release, 1761830000000, VERSION)


def words(steps: tuple[Step, ...]) -> list[str | list[str]]:
    """Return a word for each NIC and each single file, and a list of words for each aggregate."""
    found: list[str | list[str]] = []
    for step in steps:
        if isinstance(step, Plug):
            found.append(f"plug {step.device}")
        elif isinstance(step, Direct):
            found.append(step.bag.stem)
        else:
            found.append([bag.stem for bag in step.bags])
    return found


def sent(stem: str, made: Orders, number: int = 0) -> dict[str, Any]:
    return [bag.content for bag in network.bags_of(made.start()) if bag.stem == stem][number]


def everything(made: Orders) -> tuple[network.Databag, ...]:
    """Return every rule file of every order that the declaration allows."""
    declared = made.network
    steps = [*made.start(), *made.reapply(), *made.health_refreshed()]
    for machine in declared.machines:
        steps += [*made.deployed(machine, "aB3 $x"), *made.expunged(machine), *made.metadata_changed(machine)]
    for row in declared.public_addresses:
        steps += [*made.ingress_changed(row.address), *made.forwards_changed(row.address)]
        steps += [*made.static_nat_changed(row.address), *made.released(row.address)]
    for nic in (*declared.inside, *declared.private) if declared.is_vpc else ():
        steps += made.list_changed(nic)
    for nic in declared.inside if declared.is_vpc else ():
        steps += [*made.tier_added(nic), *made.tier_removed(nic)]
    steps += [*made.egress_changed(), *made.firewall6_changed(), *made.balancers_changed()]
    steps += [*made.vpn_users_changed(), *made.vpn_switched(on=False)]
    return network.bags_of(steps)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", SHIPPED)
def test_every_message_is_of_the_server_s_shape(name: str, release: str) -> None:
    bags = everything(orders(name, release))
    assert bags
    for bag in bags:
        text = bag.text()
        assert "\n" not in text
        assert faults(json.loads(text)) == [], bag.stem


def test_the_shipped_networks_send_every_kind_of_message_but_none_that_only_old_servers_know() -> None:
    kinds = {bag.content["type"] for name in SHIPPED for bag in everything(orders(name))}
    assert kinds == set(network.messages.kinds())
    old = {bag.content["type"] for name in SHIPPED for bag in everything(orders(name, "4.14"))}
    assert set(network.messages.kinds()) - old == {"ipv6firewallrules", "bgppeers"}


def test_only_the_refresh_of_health_data_is_not_kept() -> None:
    made = orders("vpc")
    kept = [
        bag.delete_from_processed_cache
        for bag in network.bags_of(made.start()) + network.bags_of(made.reapply())
    ]
    assert not any(kept)
    (step,) = made.health_refreshed()
    assert isinstance(step, Direct)
    assert step.bag.delete_from_processed_cache
    assert step.bag.scripts == ("/opt/cloud/bin/configure.py monitor_service.json",)
    assert {"config", "disable_monitoring"}.isdisjoint(step.bag.content)


# Orders


def test_a_router_starts_with_one_aggregate() -> None:
    assert words(orders().start()) == [
        [
            "ip_associations", "firewall_rules", "staticnat_rules", "firewall_rules", "forwarding_rules",
            "load_balancer", "monitor_service", *["vm_dhcp_entry"] * 2, *["vm_metadata"] * 2,
        ]
    ]  # fmt: skip


def test_rules_are_sent_again_by_the_default_of_what_leaves_first() -> None:
    assert words(orders().reapply()) == [
        [
            "firewall_rules", "firewall_rules", "ip_associations", "staticnat_rules", "firewall_rules",
            "forwarding_rules", "load_balancer",
        ]
    ]  # fmt: skip


def test_a_vpc_router_starts_nic_by_nic_then_tier_by_tier() -> None:
    assert words(orders("vpc").start()) == [
        "plug eth1", "ip_associations",
        "plug eth2", "ip_associations", "network_acl",
        "plug eth3", "guest_network",
        "plug eth4", "guest_network",
        "static_routes", "monitor_service",
        ["ip_associations", "forwarding_rules", "network_acl", "monitor_service", "vm_dhcp_entry", "vm_metadata"],
        ["ip_associations", "staticnat_rules", "forwarding_rules", "network_acl", "monitor_service",
         "vm_dhcp_entry", "vm_metadata"],
        "load_balancer",
    ]  # fmt: skip


def test_neither_tiers_nor_gateways_nor_routes_of_a_vpc_are_sent_again() -> None:
    assert words(orders("vpc").reapply()) == [
        ["ip_associations", "forwarding_rules", "load_balancer", "network_acl"],
        ["ip_associations", "staticnat_rules", "forwarding_rules", "network_acl"],
    ]


@pytest.mark.parametrize("name", ["vpc", "vpc-routed", "vpn"])
def test_a_vpc_router_gets_no_rules_of_a_firewall(name: str) -> None:
    stems = {bag.stem for bag in everything(orders(name))}
    assert {"firewall_rules", "ipv6_firewall_rules"}.isdisjoint(stems)


def test_users_of_a_vpn_come_before_it_and_connections_to_other_sites_last() -> None:
    steps = words(orders("vpn").start())
    at = steps.index("vpn_user_list")
    assert steps[at : at + 2] == ["vpn_user_list", "remote_access_vpn"]
    assert steps[-1] == "site_2_site_vpn"
    assert not {"vpn_user_list", "site_2_site_vpn"} & {
        bag.stem for bag in network.bags_of(orders("vpn").reapply())
    }


def test_a_second_public_nic_is_plugged_in_before_the_addresses_on_it() -> None:
    first, *_, (together) = orders("two-public").start()
    assert first == Plug("eth3")
    assert isinstance(together, Together)
    one, two = (bag.content["ip_address"] for bag in together.bags if bag.stem == "ip_associations")
    assert [(row["public_ip"], row["nic_dev_id"], row["new_nic"]) for row in one] == [
        ("192.0.2.10", 2, False)
    ]
    assert [(row["public_ip"], row["nic_dev_id"], row["new_nic"]) for row in two] == [
        ("203.0.113.10", 3, True),
        ("203.0.113.20", 3, True),
    ]
    assert {row["vif_mac_address"] for row in two} == {"1e:00:aa:00:10:03"}
    assert [row["source_nat"] for row in (*one, *two)] == [True, True, False]
    assert [row["gateway"] for row in two] == ["203.0.113.1"] * 2
    again = [
        bag.content
        for bag in network.bags_of(orders("two-public").reapply())
        if bag.stem == "ip_associations"
    ]
    assert not any(row["new_nic"] for content in again for row in content["ip_address"])


def test_an_internal_load_balancer_gets_one_single_file() -> None:
    assert words(orders("ilbvm").start()) == words(orders("ilbvm").reapply()) == ["load_balancer"]


def test_a_dhcp_server_is_sent_its_machines_and_nothing_again() -> None:
    assert words(orders("dhcpsrvr").start()) == [
        ["monitor_service", *["vm_dhcp_entry"] * 2, *["vm_metadata"] * 2]
    ]
    assert words(orders("dhcpsrvr").reapply()) == [[]]


def test_both_routers_of_a_pair_get_everything_but_the_watch_on_services() -> None:
    made = orders("redundant")
    other = replace(made, network=made.network.second_router())
    expected = [
        ["ip_associations", "firewall_rules", "firewall_rules", "forwarding_rules", "load_balancer",
         "vm_dhcp_entry", "vm_metadata"]
    ]  # fmt: skip
    assert words(made.start()) == words(other.start()) == expected
    assert sent("load_balancer", made)["rules"][0]["router_ip"] == "169.254.12.34"
    assert sent("load_balancer", other)["rules"][0]["router_ip"] == "169.254.12.44"


def test_a_further_subnet_comes_as_an_alias_and_with_all_subnets() -> None:
    made = orders("shared-two-ranges")
    assert words(made.start())[0][:3] == ["ip_aliases", "dhcp", "monitor_service"]
    assert sent("ip_aliases", made)["aliases"] == [
        {"revoke": False, "ip_address": "10.1.2.5", "netmask": "255.255.255.0", "count": 1}
    ]
    assert [row["router_ip_address"] for row in sent("dhcp", made)["entries"]] == ["10.1.1.5", "10.1.2.5"]
    first, second = (sent("vm_dhcp_entry", made, number) for number in range(2))
    assert (first["default_gateway"], first["dns_addresses"]) == ("10.1.1.1", "10.1.1.5")
    assert (second["default_gateway"], second["dns_addresses"]) == ("10.1.2.5", "10.1.2.5")


# Single changes


def test_a_new_machine_gets_its_lease_its_password_and_its_metadata() -> None:
    made = orders()
    machine = made.network.machines[0]
    assert words(made.deployed(machine)) == ["vm_dhcp_entry", "vm_metadata"]
    assert words(made.deployed(machine, "x")) == ["vm_dhcp_entry", "vm_password", "vm_metadata"]
    (step,) = made.password_reset(machine, "aB3 $x")
    assert network.bags_of([step])[0].content == {
        "ip_address": "10.1.1.50",
        "password": "aB3 $x",
        "type": "vmpassword",
    }
    (gone,) = network.bags_of(made.expunged(machine))
    assert gone.content == {**sent("vm_dhcp_entry", made), "remove": True}


def test_a_change_of_a_public_address_sends_all_rules_of_that_address_only() -> None:
    made = orders()
    (firewall,) = network.bags_of(made.ingress_changed(IPv4Address("192.0.2.30")))
    assert [rule["src_port_range"] for rule in firewall.content["rules"]] == [[80, 80], [22, 22]]
    (forwards,) = network.bags_of(made.forwards_changed(IPv4Address("192.0.2.10")))
    assert len(forwards.content["rules"]) == 3
    assert made.forwards_changed(IPv4Address("192.0.2.30")) == ()


def test_an_address_becomes_a_machine_s_own_or_is_given_back() -> None:
    made = orders()
    address, nat = network.bags_of(made.static_nat_changed(IPv4Address("192.0.2.30")))
    (row,) = address.content["ip_address"]
    assert (row["public_ip"], row["one_to_one_nat"], row["add"]) == ("192.0.2.30", True, True)
    assert nat.stem == "staticnat_rules"
    address, nat = network.bags_of(made.static_nat_changed(IPv4Address("192.0.2.30"), on=False))
    assert address.content["ip_address"][0]["one_to_one_nat"] is False
    assert nat.content["rules"][0] == {**sent("staticnat_rules", made)["rules"][0], "revoke": True}
    (released,) = network.bags_of(made.released(IPv4Address("192.0.2.30")))
    (row,) = released.content["ip_address"]
    assert (row["public_ip"], row["add"]) == ("192.0.2.30", False)


def test_what_is_gone_is_revoked_with_all_its_keys() -> None:
    made = orders()
    declared = made.network
    (bag,) = network.bags_of(made.ingress_changed(IPv4Address("192.0.2.30"), declared.ingress[-1:]))
    assert [(rule["revoked"], rule["already_added"]) for rule in bag.content["rules"]] == [
        (False, True),
        (True, False),
    ]
    (bag,) = network.bags_of(made.egress_changed(declared.egress))
    assert bag.content["rules"][0]["revoked"] is True
    (bag,) = network.bags_of(made.forwards_changed(IPv4Address("192.0.2.10"), declared.forwards[1:2]))
    assert [rule["revoke"] for rule in bag.content["rules"]] == [False, True, False]
    (bag,) = network.bags_of(made.balancers_changed(declared.load_balancers))
    (rule,) = bag.content["rules"]
    assert (rule["add_rules"], rule["remove_rules"]) == ([], ["192.0.2.20:80:"])
    assert "listen  vmops" in rule["configuration"]


def test_vpn_users_that_are_gone_come_first() -> None:
    (bag,) = network.bags_of(orders("vpn").vpn_users_changed(["eve"]))
    assert [(row["user"], row["add"]) for row in bag.content["vpn_users"]] == [("eve", False), ("bob", True)]


def test_a_tier_more_is_plugged_in_announced_watched_and_given_its_rules() -> None:
    made = orders("vpc")
    tier = made.network.nic("eth3")
    assert words(made.tier_added(tier)) == [
        "plug eth3", "guest_network", "monitor_service",
        ["ip_associations", "forwarding_rules", "load_balancer", "network_acl"],
    ]  # fmt: skip
    watch = network.bags_of(made.tier_added(tier))[1]
    assert watch.scripts == ("/opt/cloud/bin/configure.py monitor_service.json",)
    (gone,) = network.bags_of(made.tier_removed(tier))
    assert gone.content == {**sent("guest_network", made), "add": False}


def test_a_vpn_is_switched_off_with_all_its_keys() -> None:
    made = orders("vpn")
    users, server = network.bags_of(made.vpn_switched(on=False))
    assert users.content == network.bags_of(made.vpn_users_changed())[0].content
    assert server.content == {**sent("remote_access_vpn", made), "create": False}


# Messages


def test_a_public_address_has_the_keys_of_the_server() -> None:
    expected = {
        "public_ip": "192.0.2.20", "source_nat": False, "add": True, "one_to_one_nat": False, "first_i_p": False,
        "gateway": "192.0.2.1", "netmask": "255.255.255.0", "vif_mac_address": "1e:00:aa:00:00:04",
        "nic_dev_id": 2, "new_nic": False, "nw_type": "Public", "is_private_gateway": False, "mtu": 1500,
    }  # fmt: skip
    rows = sent("ip_associations", orders())["ip_address"]
    assert rows[1] == expected
    assert [row["first_i_p"] for row in rows] == [True, False, False]
    assert [row["one_to_one_nat"] for row in rows] == [False, False, True]
    old = sent("ip_associations", orders(release="4.14.0"))["ip_address"][1]
    assert set(expected) - set(old) == {"is_private_gateway", "mtu"}


def test_only_the_real_source_nat_address_of_a_vpc_is_marked() -> None:
    rows = [
        row
        for bag in network.bags_of(orders("vpc").start())
        if bag.stem == "ip_associations"
        for row in bag.content["ip_address"]
    ]
    marked = {row["public_ip"]: row["source_nat"] for row in rows}
    assert marked == {
        "198.51.100.10": True, "172.31.0.1": False, "198.51.100.20": False, "198.51.100.30": False,
    }  # fmt: skip


def test_a_private_gateway_has_its_address_and_its_list() -> None:
    made = orders("vpc")
    (row,) = sent("ip_associations", made, 1)["ip_address"]
    assert (row["is_private_gateway"], row["nw_type"], row["first_i_p"]) == (True, "Public", False)
    assert row["vif_mac_address"] == "06:00:5b:1c:00:04"
    assert "mtu" not in row
    lists = {
        bag.content["device"]: bag.content["private_gateway_acl"]
        for bag in network.bags_of(made.start())
        if bag.stem == "network_acl"
    }
    assert lists == {"eth2": True, "eth3": False, "eth4": False}


def test_a_tier_has_the_keys_of_the_server() -> None:
    assert sent(TIER, orders("vpc")) == {
        "add": True, "mac_address": "02:00:5b:1c:00:01", "device": "eth3", "router_guest_ip": "10.20.1.1",
        "router_guest_netmask": "255.255.255.0", "router_guest_gateway": "10.20.1.1", "cidr": "24",
        "dns": "192.0.2.3", "domain_name": "cs2.cloud.internal", "is_vr_guest_gateway": True, "network_id": 203,
        "mtu": 1500, "type": "guestnetwork",
    }  # fmt: skip


@pytest.mark.parametrize("policy", ["allow", "deny"])
def test_the_default_of_what_leaves_has_no_lists_and_an_empty_address(policy: str) -> None:
    made = orders(egress_default=policy)
    default = {
        "id": 0, "src_ip": "", "protocol": "all", "revoked": False, "already_added": False, "source_cidr_list": [],
        "dest_cidr_list": [], "purpose": "Firewall", "traffic_type": "Egress", "default_egress_policy": True,
    }  # fmt: skip
    rules = sent("firewall_rules", made)["rules"]
    assert [rule["id"] for rule in rules] == ([1, 0] if policy == "allow" else [1])
    if policy == "allow":
        assert rules[-1] == default
    (alone,) = network.bags_of(made.reapply())[0].content["rules"]
    assert alone == {
        **default,
        "dest_cidr_list": ["0.0.0.0/0"],
        "default_egress_policy": policy == "allow",
    }


def test_rules_for_what_leaves_name_the_guest_network_where_nobody_says_more() -> None:
    (rule,) = network.bags_of(orders().egress_changed())[0].content["rules"]
    assert rule == {
        "id": 1, "src_ip": "", "protocol": "tcp", "src_port_range": [7, 7], "revoked": False, "already_added": True,
        "source_cidr_list": ["10.1.1.0/24"], "dest_cidr_list": ["0.0.0.0/0"], "purpose": "Firewall",
        "traffic_type": "Egress", "default_egress_policy": True,
    }  # fmt: skip


def test_a_rule_for_what_comes_in_has_the_keys_of_the_server() -> None:
    (rule, *_) = sent("firewall_rules", orders(), 1)["rules"]
    assert rule == {
        "id": 101, "src_ip": "192.0.2.10", "protocol": "tcp", "src_port_range": [2222, 2222], "revoked": False,
        "already_added": True, "source_cidr_list": ["0.0.0.0/0"], "dest_cidr_list": [], "purpose": "Firewall",
        "traffic_type": "Ingress", "default_egress_policy": False,
    }  # fmt: skip
    ping = [{"public": "192.0.2.10", "protocol": "icmp"}]
    (rule,) = sent("firewall_rules", orders(ingress=ping), 1)["rules"]
    assert (rule["icmp_type"], rule["icmp_code"], "src_port_range" in rule) == (-1, -1, False)


def test_rules_of_a_network_without_nat_have_no_address_and_come_with_those_for_what_leaves() -> None:
    made = orders(
        routed=True,
        forward=[],
        static_nat=[],
        load_balancer=[],
        ingress=[{"ports": 22, "cidrs": ["192.0.2.0/24"]}],
    )
    rules = sent("firewall_rules", made)["rules"]
    assert [(rule["id"], rule.get("src_ip")) for rule in rules] == [(1, ""), (0, ""), (101, None)]
    assert words(made.start())[0].count("firewall_rules") == 1
    assert words(made.reapply())[0].count("firewall_rules") == 3


def test_ipv6_rules_begin_with_the_default_at_a_start_only() -> None:
    made = orders("router-ipv6")
    rules = sent("ipv6_firewall_rules", made)["rules"]
    assert [(rule["id"], rule["traffic_type"]) for rule in rules] == [
        (0, "Egress"), (203, "Egress"), (201, "Ingress"), (202, "Ingress"),
    ]  # fmt: skip
    assert {rule["guest_ip6_cidr"] for rule in rules} == {"2001:db8:1::/64"}
    assert [rule.get("src_ip") for rule in rules] == ["", "", None, None]
    (again,) = network.bags_of(made.firewall6_changed())
    assert again.content["rules"] == rules[1:]
    assert "ipv6_firewall_rules" not in words(made.reapply())[0]


@pytest.mark.parametrize(
    ("release", "sources"), [("4.19.1", None), ("4.19.2", ""), ("4.20.0", None), ("4.20.1", ""), ("4.22", "")]
)
def test_a_port_forward_has_its_sources_as_one_string_where_the_server_knows_them(
    release: str, sources: str | None
) -> None:
    (rule, *_) = sent("forwarding_rules", orders(release=release))["rules"]
    plain = {
        "revoke": False, "protocol": "tcp", "source_ip_address": "192.0.2.10", "source_port_range": "2222:2222",
        "destination_ip_address": "10.1.1.50", "destination_port_range": "22:22",
    }  # fmt: skip
    assert rule == plain | ({} if sources is None else {"source_cidr_list": sources})


def test_several_sources_of_a_port_forward_are_joined() -> None:
    forward = {**document()["forward"][0], "sources": ["203.0.113.0/24", "198.51.100.0/24"]}
    (rule,) = sent("forwarding_rules", orders(forward=[forward]))["rules"]
    assert rule["source_cidr_list"] == "203.0.113.0/24,198.51.100.0/24"


def test_static_nat_has_no_ports_and_no_protocol() -> None:
    assert sent("staticnat_rules", orders())["rules"] == [
        {
            "revoke": False, "source_ip_address": "192.0.2.30", "source_port_range": "0:0",
            "destination_ip_address": "10.1.1.60",
        }
    ]  # fmt: skip


@pytest.mark.parametrize(("release", "everybody"), [("4.16", "0.0.0.0/0"), ("4.17", "0.0.0.0/0,::/0")])
def test_a_line_of_an_access_list_has_its_addresses_in_one_string(release: str, everybody: str) -> None:
    acl = [
        {"device": "eth3", "ports": 22},
        {"device": "eth3", "protocol": "udp", "cidrs": ["203.0.113.0/24", "::/0"], "allowed": False},
        {"device": "eth3", "direction": "egress", "protocol": "icmp"},
    ]
    content = sent("network_acl", orders("vpc", release, acl=acl))
    assert content == {
        "device": "eth3", "mac_address": "02:00:5b:1c:00:01", "private_gateway_acl": False, "nic_ip": "10.20.1.1",
        "nic_netmask": "24",
        "ingress_rules": [
            {"type": "tcp", "first_port": 22, "last_port": 22, "cidr": everybody, "allowed": True},
            {"type": "udp", "first_port": 0, "last_port": 0, "cidr": "203.0.113.0/24,::/0", "allowed": False},
        ],
        "egress_rules": [
            {"type": "icmp", "icmp_type": -1, "icmp_code": -1, "cidr": everybody, "allowed": True}
        ],
        "type": "networkacl",
    }  # fmt: skip


def test_a_load_balancer_has_the_keys_and_elements_of_the_server() -> None:
    (rule,) = sent("load_balancer", orders())["rules"]
    elements = rule.pop("configuration")
    assert rule == {
        "tmp_cfg_file_path": "/etc/haproxy/", "tmp_cfg_file_name": "haproxy.cfg.new.1761830000000",
        "ssl_certs": [], "add_rules": ["192.0.2.20:80:"], "remove_rules": [],
        "stat_rules": ["192.0.2.10:8081:0/0:,"], "router_ip": "169.254.12.34",
    }  # fmt: skip
    start = elements.index("listen 192_0_2_20-80")
    assert elements[start : start + 7] == [
        "listen 192_0_2_20-80", "\tbind 192.0.2.20:80", "\tmode http", "\toption httpclose", "\tbalance roundrobin",
        "\tserver 192_0_2_20-80_0 10.1.1.50:80 check", "\t ",
    ]  # fmt: skip
    (stats,) = [element for element in elements if "stats_on_public" in element]
    assert stats.startswith("\nlisten stats_on_public\n\tbind 192.0.2.10:8081\n\tmode http\n")
    assert stats.endswith("\n")
    assert "ssl_certs" not in sent("load_balancer", orders(release="4.21"))["rules"][0]


def test_who_may_use_a_load_balancer_is_one_element_of_two_lines() -> None:
    balancer = {**document()["load_balancer"][0], "sources": ["203.0.113.0/24", "198.51.100.0/24"]}
    elements = sent("load_balancer", orders(load_balancer=[balancer]))["rules"][0]["configuration"]
    assert (
        "\tacl network_allowed src 203.0.113.0/24 198.51.100.0/24 \n"
        "\ttcp-request connection reject if !network_allowed"
    ) in elements


@pytest.mark.parametrize(
    ("name", "address"), [("vpc", "10.20.1.1"), ("ilbvm", "10.1.1.100"), ("router", "169.254.12.34")]
)
def test_the_address_of_a_balancing_router_is_its_inner_one_in_a_vpc(name: str, address: str) -> None:
    assert sent("load_balancer", orders(name))["rules"][0]["router_ip"] == address


@pytest.mark.parametrize("release", ["4.17", "4.18", "4.22"])
def test_a_configuration_is_of_its_release(release: str) -> None:
    text = "\n".join(sent("load_balancer", orders(release=release))["rules"][0]["configuration"])
    modern = release != "4.17"
    assert ("stats socket /run/haproxy/admin.sock" in text) is modern
    assert ("option forceclose" in text) is not modern


def test_a_port_other_than_80_is_balanced_as_tcp() -> None:
    balancer = {"public": "192.0.2.20", "port": 443, "members": ["10.1.1.50:443"]}
    elements = sent("load_balancer", orders(load_balancer=[balancer]))["rules"][0]["configuration"]
    assert elements[elements.index("listen 192_0_2_20-443") + 2] == "\tbalance roundrobin"


@pytest.mark.parametrize("rules", [0, 1])
def test_haproxy_accepts_the_configuration(tmp_path: Path, rules: int) -> None:
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    assert program, "the Debian package haproxy is missing: run 'make machine'"
    declared = network.load()
    elements = configuration(declared.load_balancers[:rules], declared.control.address.ip, "4.22")
    assert any("listen  vmops" in element for element in elements) == (rules == 0)
    (tmp_path / "haproxy.cfg").write_text("\n".join(elements) + "\n")
    done = subprocess.run(
        [program, "-c", "-f", str(tmp_path / "haproxy.cfg")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_lease_has_the_keys_of_the_server() -> None:
    assert sent("vm_dhcp_entry", orders()) == {
        "host_name": "vm1", "mac_address": "02:00:26:c3:00:02", "ipv4_address": "10.1.1.50",
        "ipv6_duid": "00:03:00:01:02:00:26:c3:00:02", "dns_addresses": "10.1.1.1", "default_gateway": "10.1.1.1",
        "default_entry": True, "remove": False, "type": "dhcpentry",
    }  # fmt: skip
    assert sent("vm_dhcp_entry", orders("router-ipv6"))["ipv6_address"] == "2001:db8:1::26ff:fec3:2101"


ROWS = [
    "user-data", "service-offering", "availability-zone", "local-ipv4", "local-hostname", "public-ipv4",
    "public-hostname", "instance-id", "vm-id", "public-keys", "cloud-identifier",
]  # fmt: skip


@pytest.mark.parametrize(
    ("release", "further"),
    [
        ("4.14", []),
        ("4.15", ["hypervisor-host-name"]),
        ("4.18", ["hypervisor-host-name", "cloud-domain", "cloud-domain-id"]),
        ("4.19", ["hypervisor-host-name", "cloud-domain", "cloud-domain-id", "cloud-name"]),
    ],
)
def test_metadata_has_the_rows_of_the_release_in_their_order(release: str, further: list[str]) -> None:
    content = sent("vm_metadata", orders(release=release))
    assert [row[1] for row in content["vm_metadata"]] == ROWS + further
    rows = {row[1]: row[2] for row in content["vm_metadata"]}
    assert base64.b64decode(rows["user-data"]) == b"#cloud-config\nhostname: vm1\n"
    assert rows["public-keys"] is None
    assert rows["public-ipv4"] == "192.0.2.10"
    assert (rows["service-offering"], rows["vm-id"]) == ("Small Instance", "50")
    assert (
        sent("vm_metadata", orders(release=release), 1)["vm_metadata"][0][2] is None
    )  # vm2 has no user data


def test_parameters_of_user_data_follow_the_name_and_letters_are_escaped() -> None:
    machine = {**document()["machine"][0], "metadata": {"my key": "v 1", "service-offering": "Café"}}
    content = sent("vm_metadata", orders(machine=[machine]))["vm_metadata"]
    assert content[1][2] == "Caf\\u00e9"
    assert content[5] == ["metadata", "my key", "v 1"]
    old = sent("vm_metadata", orders(release="4.17", machine=[machine]))["vm_metadata"]
    assert "my key" not in {row[1] for row in old}


def test_health_data_are_strings_in_the_server_s_records() -> None:
    content = sent("monitor_service", orders())
    assert content["config"] == (
        "[dhcp]:processname=dnsmasq:servicename=dnsmasq:pidfile=/var/run/dnsmasq/dnsmasq.pid:,"
        "[loadbalancing]:processname=haproxy:servicename=haproxy:pidfile=/var/run/haproxy.pid:,"
        "[ssh]:processname=sshd:servicename=ssh:pidfile=/var/run/sshd.pid:,"
        "[webserver]:processname=apache2:servicename=apache2:pidfile=/var/run/apache2/apache2.pid:,"
    )
    data = content["health_checks_config"]
    assert data["virtualMachines"].split(";")[0] == (
        "vmName=vm1,macAddress=02:00:26:c3:00:02,ip=10.1.1.50,dhcp=true,dns=true"
    )
    assert data["gateways"] == "gatewaysIps=192.0.2.1 "
    assert data["portForwarding"].split(";")[0] == (
        "sourceIp=192.0.2.10,sourcePortStart=2222,sourcePortEnd=2222,destIp=10.1.1.50,destPortStart=22,destPortEnd=22"
    )
    assert data["haproxyData"] == (
        "maxconn=4096,sourcePortStart=80,sourcePortEnd=80,sourceIp=192.0.2.20,destPortStart=80,destPortEnd=80,"
        "algorithm=roundrobin,protocol=tcp,stickiness=None,keepAliveEnabled=false,vmIps=10.1.1.50;"
    )
    assert data["routerVersion"] == "templateVersion=Cloudstack Release 4.22.0,scriptsVersion=ab12"
    unasked = replace(orders(), version=None)
    assert "routerVersion" not in sent("monitor_service", unasked)["health_checks_config"]


def test_the_first_watch_of_a_vpc_is_on_ssh_only() -> None:
    assert sent("monitor_service", orders("vpc"))["config"].startswith("[ssh]:")
    assert sent("monitor_service", orders("vpc"), 1)["config"].startswith("[dhcp]:")


def test_the_server_of_a_vpn_has_the_first_address_of_the_pool() -> None:
    assert sent("remote_access_vpn", orders("vpn")) == {
        "create": True, "ip_range": "10.1.2.2-10.1.2.8", "preshared_key": "abcdefghij",
        "vpn_server_ip": "198.51.100.10", "local_ip": "10.1.2.1", "local_cidr": "10.40.0.0/16",
        "public_interface": "eth1", "type": "remoteaccessvpn",
    }  # fmt: skip
    assert sent("vpn_user_list", orders("vpn"))["vpn_users"][0] == {
        "user": "bob", "password": "b0b-secret", "add": True,
    }  # fmt: skip


def test_a_connection_to_another_site_has_the_keys_of_its_release() -> None:
    content = sent("site_2_site_vpn", orders("vpn"))
    assert content["peer_guest_cidr_list"] == "10.9.0.0/16,10.8.0.0/16"
    assert (content["local_public_gateway"], content["passive"]) == ("198.51.100.1", True)
    assert set(content) - set(sent("site_2_site_vpn", orders("vpn", "4.14"))) == {
        "ike_version", "split_connections",
    }  # fmt: skip


def test_each_peer_is_told_of_each_tier() -> None:
    peers = sent("bgp_peers", orders("vpc-routed"))["peers"]
    assert [(row["peer_id"], row["network_id"], row["guest_ip4_cidr"]) for row in peers] == [
        (1, 202, "10.30.1.0/24"),
        (1, 203, "10.30.2.0/24"),
    ]
    assert peers[0]["details"] == {"EBGP_MultiHop": "2"}
    assert (peers[0]["network_as_number"], peers[0]["peer_password"]) == (65001, "s3cret")


def test_a_route_names_the_router_s_own_address_on_a_private_gateway() -> None:
    assert sent("static_routes", orders("vpc"))["routes"] == [
        {"revoke": False, "ip_address": "172.31.0.1", "gateway": "172.31.0.2", "network": "172.30.0.0/16"}
    ]
    hop = [{"network": "172.30.0.0/16", "gateway": "10.20.1.9"}]
    (route,) = sent("static_routes", orders("vpc", route=hop))["routes"]
    assert "ip_address" not in route
