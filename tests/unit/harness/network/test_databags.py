"""What the messages say of a declared network, release by release."""

from __future__ import annotations

import base64
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness import network
from harness.network import Orders, Together
from harness.network.haproxy import configuration
from harness.network.model import Ingress
from tests.unit.harness.network.sending import TIER, document, orders, sent, words


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


def test_a_tier_with_ipv6_names_its_own_and_the_public_side() -> None:
    nics = document("vpc")["nic"]
    nics[1] |= {"address6": "2001:db8:ff::2/64", "gateway6": "2001:db8:ff::1"}
    nics[3] |= {"address6": "2001:db8:1::1/64"}
    made = orders("vpc", nic=nics, dns6=["2001:db8::53"])
    tier = sent(TIER, made)
    assert {key: value for key, value in tier.items() if "6" in key} == {
        "cidr6": "64", "dns6": "2001:db8::53", "router_guest_ip6": "2001:db8:1::1",
        "router_guest_ip6_gateway": "2001:db8:1::1", "router_guest_ip6_cidr": "2001:db8:1::/64",
        "router_ip6": "2001:db8:ff::2", "router_ip6_gateway": "2001:db8:ff::1", "router_ip6_cidr": "2001:db8:ff::/64",
    }  # fmt: skip
    assert not [key for key in sent(TIER, made, 1) if "6" in key]  # the other tier has IPv4 only
    lists = [bag.content for bag in network.bags_of(made.start()) if bag.stem == "network_acl"]
    assert [row.get("nic_ip6_cidr") for row in lists] == [None, "2001:db8:1::/64", None]


def test_addresses_of_a_further_public_nic_of_a_vpc_come_with_the_tier_that_uses_them() -> None:
    declared = document("vpc")
    nic = {"device": "eth2", "role": "public", "address": "203.0.113.10/24", "mac": "1e:00:aa:00:10:03"}
    moved = [{**row, "device": f"eth{int(row['device'][3:]) + 1}"} for row in declared["nic"][2:]]
    made = orders(
        "vpc",
        nic=[*declared["nic"][:2], nic, *moved],
        public_address=[*declared["public_address"], {"address": "203.0.113.20"}],
        forward=[{**declared["forward"][0], "public": "203.0.113.20"}],
        acl=[],
        outsider=[],
        route=[],
    )
    assert words(made.start())[:3] == ["plug eth1", "plug eth2", "ip_associations"]
    (tier, *_) = [step for step in made.start() if isinstance(step, Together)]
    found = [bag.content["ip_address"] for bag in tier.bags if bag.stem == "ip_associations"]
    assert [[(row["public_ip"], row["nic_dev_id"], row["source_nat"]) for row in rows] for rows in found] == [
        [("198.51.100.20", 1, False)],
        [("203.0.113.20", 2, False)],
    ]


@pytest.mark.parametrize("policy", ["allow", "deny"])
def test_the_default_of_what_leaves_has_no_lists_and_an_empty_address(policy: str) -> None:
    made = orders(egress_default=policy)
    default = {
        "id": 0, "src_ip": "", "protocol": "all", "revoked": False, "already_added": False, "source_cidr_list": [],
        "dest_cidr_list": [], "purpose": "Firewall", "traffic_type": "Egress", "default_egress_policy": True,
    }  # fmt: skip
    rules = sent("firewall_rules", made)["rules"]
    assert [rule["id"] == 0 for rule in rules] == ([False, True] if policy == "allow" else [False])
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
        "id": rule["id"], "src_ip": "", "protocol": "tcp", "src_port_range": [7, 7], "revoked": False,
        "already_added": True, "source_cidr_list": ["10.1.1.0/24"], "dest_cidr_list": ["0.0.0.0/0"],
        "purpose": "Firewall", "traffic_type": "Egress", "default_egress_policy": True,
    }  # fmt: skip


def test_a_rule_for_what_comes_in_has_the_keys_of_the_server() -> None:
    (rule, *_) = sent("firewall_rules", orders(), 1)["rules"]
    assert rule == {
        "id": rule["id"], "src_ip": "192.0.2.10", "protocol": "tcp", "src_port_range": [2222, 2222], "revoked": False,
        "already_added": True, "source_cidr_list": ["0.0.0.0/0"], "dest_cidr_list": [], "purpose": "Firewall",
        "traffic_type": "Ingress", "default_egress_policy": False,
    }  # fmt: skip
    ping = [{"public": "192.0.2.10", "protocol": "icmp"}]
    (rule,) = sent("firewall_rules", orders(ingress=ping), 1)["rules"]
    assert (rule["icmp_type"], rule["icmp_code"], "src_port_range" in rule) == (-1, -1, False)


def test_a_rule_keeps_its_number_whatever_else_is_declared_and_whatever_goes() -> None:
    """A router knows a rule by its number and ignores what comes with a number that it knows."""
    made = orders()
    declared = made.network
    first, *rest = declared.ingress
    public = first.public
    assert public

    def numbers(orders_: Orders, gone: tuple[Ingress, ...] = ()) -> dict[str, int]:
        bags = network.bags_of([*orders_.ingress_changed(public, gone), *orders_.egress_changed()])
        return {repr({**rule, "id": 0, "revoked": 0, "already_added": 0}): rule["id"]
                for bag in bags for rule in bag.content["rules"]}  # fmt: skip

    whole = numbers(made)
    assert len(set(whole.values())) == len(whole) > 2
    assert all(0 < number < 2**48 for number in whole.values())
    for ingress in (tuple(rest), tuple(reversed(declared.ingress))):
        fewer = numbers(replace(made, network=replace(declared, ingress=ingress)))
        assert fewer.items() <= whole.items()
    # What has left the declaration is revoked under the number that it came with.
    assert numbers(replace(made, network=replace(declared, ingress=tuple(rest))), (first,)) == whole


def test_rules_of_a_network_without_nat_have_no_address_and_come_with_those_for_what_leaves() -> None:
    made = orders(
        routed=True,
        forward=[],
        static_nat=[],
        load_balancer=[],
        ingress=[{"ports": 22, "cidrs": ["192.0.2.0/24"]}],
    )
    rules = sent("firewall_rules", made)["rules"]
    assert [(rule["id"] == 0, rule.get("src_ip")) for rule in rules] == [
        (False, ""),
        (True, ""),
        (False, None),
    ]
    assert words(made.start())[0].count("firewall_rules") == 1
    assert words(made.reapply())[0].count("firewall_rules") == 3


def test_ipv6_rules_begin_with_the_default_at_a_start_only() -> None:
    made = orders("router-ipv6")
    rules = sent("ipv6_firewall_rules", made)["rules"]
    assert [(rule["id"] == 0, rule["traffic_type"]) for rule in rules] == [
        (True, "Egress"), (False, "Egress"), (False, "Ingress"), (False, "Ingress"),
    ]  # fmt: skip
    assert len({rule["id"] for rule in rules}) == 4
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
    machine = {**document()["machine"][0], "metadata": {"my key": "v 1", "service-offering": "Grün"}}
    content = sent("vm_metadata", orders(machine=[machine]))["vm_metadata"]
    assert content[1][2] == "Gr\\u00fcn"
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
