"""What is sent when: the order and the file form, at a start, again, and for single changes."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from harness import network
from harness.network import Direct, Orders, Plug, Together
from tests.unit.harness.network.sending import RELEASES, SHIPPED, orders, sent, words
from tests.unit.harness.network.shapes import faults
from tests.unit.payload import guest

_READER = guest.module("messages")


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
    # A branch without a third number is its newest release.
    point = release if release.count(".") == 2 else f"{release}.99"
    for bag in bags:
        text = bag.text()
        assert "\n" not in text
        assert faults(json.loads(text)) == [], bag.stem
        # The guest has a model of its own, which needs no more than its Python: both say the same.
        assert _READER.strange(json.loads(text), point) == [], bag.stem
        _READER.parse(text)


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
