"""The router of a VPC: interfaces that are plugged in after the boot, access lists, private gateways, static routes."""

from tests.guest.rules.tiers import (
    ABOUT_GATEWAY,
    ANY,
    DENY,
    GATEWAY_MAC,
    acl,
    add_tier,
    allow,
    tier,
    tier_mac,
    vm_in,
)


def forward(make, port):
    return make.forward("192.0.2.10", port, "10.20.1.50", 80)


def test_a_tier_gets_its_address_dhcp_dns_and_metadata(vpc, get):
    add_tier(vpc, 1)
    vm = vm_in(vpc, 1)
    vpc.send("dhcpentry", host_name="vm1", mac_address="02:00:00:01:01:32", ipv4_address="10.20.1.50")
    assert (
        "10.20.1.50"
        in vm.run("busybox", "nslookup", "vm1.cs2.cloud.internal", "10.20.1.1", check=False).stdout
    )
    vpc.send("vmdata", vm_ip_address="10.20.1.50", vm_metadata=[["metadata", "local-ipv4", "10.20.1.50"]])
    assert get(vm, "http://10.20.1.1/latest/local-ipv4") == "10.20.1.50"


def test_a_tier_is_found_by_its_mac_whatever_the_message_calls_it(vpc):
    vpc.plug_guest("eth7", tier_mac(1), bridge="tier1")
    vpc.send("guestnetwork", **tier(1))
    assert "10.20.1.1/24" in vpc.router.sh("ip -o address show dev eth7").stdout


def test_forwarding_into_a_tier_needs_its_access_list(vpc, make, get):
    add_tier(vpc, 1)
    vpc.site(vm_in(vpc, 1), "tier one")
    vpc.send("forwardrules", rules=[forward(make, 8000)])
    assert get(vpc.outside, "http://192.0.2.10:8000/") is None
    vpc.send("networkacl", **acl(1, ingress=[allow(port=80)]))
    assert get(vpc.outside, "http://192.0.2.10:8000/") == "tier one"


def test_tiers_reach_each_other_as_both_lists_allow(vpc, get):
    add_tier(vpc, 1, ingress=[allow("10.20.2.0/24", port=80)], egress=[allow()])
    add_tier(vpc, 2)
    vpc.site(vm_in(vpc, 1), "tier one")
    client = vm_in(vpc, 2)
    assert get(client, "http://10.20.1.50/") == "tier one"
    vpc.send("networkacl", **acl(2, egress=[DENY]))
    assert get(client, "http://10.20.1.50/") is None
    vpc.send("networkacl", **acl(2, egress=[allow("10.20.1.0/24", port=80), DENY]))
    assert get(client, "http://10.20.1.50/") == "tier one"
    vpc.send("networkacl", **acl(1, ingress=[allow("10.20.3.0/24", port=80)]))
    assert get(client, "http://10.20.1.50/") is None


def test_a_denying_rule_before_an_allowing_one_wins(vpc, get):
    add_tier(
        vpc,
        1,
        ingress=[{"type": "tcp", "first_port": 80, "last_port": 80, "cidr": ANY, "allowed": False}, allow()],
    )
    add_tier(vpc, 2, egress=[allow()])
    vpc.site(vm_in(vpc, 1), "tier one")
    vpc.site(vm_in(vpc, 1, host=51), "other port", port=81)
    client = vm_in(vpc, 2)
    assert get(client, "http://10.20.1.50/") is None
    assert get(client, "http://10.20.1.51:81/") == "other port"


def test_a_tier_reaches_the_outside_as_its_list_allows(vpc, get):
    add_tier(vpc, 1)
    vpc.site(vpc.outside, "world", port=8000)
    vm = vm_in(vpc, 1)
    assert get(vm, "http://192.0.2.1:8000/") == "world"
    vpc.send("networkacl", **acl(1, egress=[allow(port=80), DENY]))
    assert get(vm, "http://192.0.2.1:8000/") is None
    vpc.send("networkacl", **acl(1, egress=[allow(port=8000), DENY]))
    assert get(vm, "http://192.0.2.1:8000/") == "world"


def test_a_removed_tier_leaves_nothing_behind(vpc):
    before = vpc.router.sh("iptables-save | grep -v '^#' | sed 's/\\[.*//'").stdout
    add_tier(vpc, 1)
    vpc.send("guestnetwork", **tier(1, add=False))
    assert (
        "10.20.1.1"
        not in vpc.router.sh(
            "ip -o address; cat /etc/dnsmasq.d/cloud.conf; ls /etc/apache2/sites-enabled"
        ).stdout
    )
    assert vpc.router.sh("iptables-save | grep -v '^#' | sed 's/\\[.*//'").stdout == before


def test_a_static_route_through_a_private_gateway_carries_traffic(vpc, make, get):
    add_tier(vpc, 1, ingress=[allow()], egress=[allow()])
    partner = vpc.new_space()
    vpc.cable(partner, "eth0", "eth3", GATEWAY_MAC)
    partner.sh(
        "ip address add 172.31.0.2/24 dev eth0; ip address add 172.30.0.9/32 dev lo; ip link set eth0 up"
    )
    partner.sh("ip route add 10.20.0.0/16 via 172.31.0.1")
    more = {
        "gateway": "172.31.0.2",
        "is_private_gateway": True,
        "vif_mac_address": GATEWAY_MAC,
        "nic_dev_id": 3,
    }
    route = {"revoke": False, "network": "172.30.0.0/16", "ip_address": "172.31.0.2", "gateway": "172.31.0.2"}
    vpc.aggregate(
        ("ips", {"ip_address": [make.ip("172.31.0.1", **more)]}), ("staticroutes", {"routes": [route]})
    )
    vpc.site(partner, "partner", port=8000, address="172.30.0.9")
    vm = vm_in(vpc, 1)
    assert get(vm, "http://172.30.0.9:8000/") is None
    vpc.send("networkacl", **ABOUT_GATEWAY, ingress_rules=[allow()], egress_rules=[])
    assert get(vm, "http://172.30.0.9:8000/") == "partner"
    vpc.send("staticroutes", routes=[{**route, "revoke": True}])
    assert "172.30.0.0/16" not in vpc.router.sh("ip route").stdout


def test_eleven_tiers_fit(vpc):
    for number in range(1, 12):
        vpc.plug_guest(f"eth{number + 1}", tier_mac(number), bridge=f"tier{number}")
    vpc.aggregate(
        *[("guestnetwork", tier(number)) for number in range(1, 12)],
        *[("networkacl", acl(number, ingress=[allow()])) for number in range(1, 12)],
    )
    assert vpc.router.sh("ip -o -4 address | grep -c 10.20").stdout.strip() == "11"
    assert vpc.router.sh("iptables-save | grep -c '^:ACL_INBOUND_eth'").stdout.strip() == "11"


def test_the_list_of_a_private_gateway_speaks_from_its_own_view(vpc, make, get):
    add_tier(vpc, 1, ingress=[allow()], egress=[allow()])
    partner = vpc.new_space()
    vpc.cable(partner, "eth0", "eth3", GATEWAY_MAC)
    partner.sh(
        "ip address add 172.31.0.2/24 dev eth0; ip link set eth0 up; ip route add 10.20.0.0/16 via 172.31.0.1"
    )
    more = {
        "gateway": "172.31.0.2",
        "is_private_gateway": True,
        "vif_mac_address": GATEWAY_MAC,
        "nic_dev_id": 3,
    }
    vpc.send("ips", ip_address=[make.ip("172.31.0.1", **more)])
    vm = vm_in(vpc, 1)
    vpc.site(vm, "tier one")
    vpc.site(partner, "partner", port=8000)
    rules = {"ingress_rules": [allow(port=8000)], "egress_rules": [DENY]}
    vpc.send("networkacl", **ABOUT_GATEWAY, **rules)
    assert get(vm, "http://172.31.0.2:8000/") == "partner"
    assert get(partner, "http://10.20.1.50/") is None
    rules = {"ingress_rules": [], "egress_rules": [allow(port=80), DENY]}
    vpc.send("networkacl", **ABOUT_GATEWAY, **rules)
    assert get(vm, "http://172.31.0.2:8000/") is None
    assert get(partner, "http://10.20.1.50/") == "tier one"
