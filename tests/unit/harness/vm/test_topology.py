"""Who sits where: NICs of declared networks, their cables, and the hosts of the tenant guest."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from bundle import catalogue
from bundle.errors import UsageError
from harness import network
from harness.lab.wish import Wish
from harness.vm import types
from harness.vm.around import around, pair_around
from harness.vm.cables import Star, UserNet
from harness.vm.loopback import UdpCable
from harness.vm.tenant.tenant import TenantHost, Uplink
from harness.vm.wiring import FIRST_NIC_SLOT


def test_a_vpc_router_boots_with_its_control_nic_alone():
    plan = around(network.load("vpc"))
    assert [nic.role for nic in plan.nics] == ["control", "public", "private", "tier", "tier"]
    assert plan.present_at_boot == 1
    words = plan.cmdline("ssh-ed25519 AAAA", catalogue.load().release("4.22")).split()
    assert "eth0ip=169.254.20.5" in words
    assert not any(word.startswith("eth1") for word in words)


@pytest.mark.parametrize("name", ["router", "vpc", "two-public"])
def test_every_segment_has_one_cable_and_every_host_a_nic(name):
    plan = around(network.load(name))
    (tenants,) = plan.tenants
    links = {device: UdpCable(1000 + n, 2000 + n) for n, device in enumerate(plan.segments)}
    nics = plan.tenant_nics(tenants, links, lambda _address, _port: 30000)
    stars = [end for _mac, end in nics if isinstance(end, Star)]
    cables = [cable for star in stars for cable in star.links]
    assert sorted(cables, key=lambda cable: cable.remote_port) == [link.other_end for link in links.values()]
    assert len(nics) == len(tenants.hosts) + 2 * len((*tenants.uplinks, *tenants.transits))
    assert len({mac for mac, _end in nics}) == len(nics)
    for host, (mac, star) in zip(tenants.hosts, nics, strict=False):
        assert (mac, star.hub_id) == (host.mac, int(host.device[3:]))


def test_loopback_comes_in_through_the_uplink_and_not_through_the_router():
    plan = around(network.load("router"))
    links = {device: UdpCable(1, 2) for device in plan.segments}
    public = next(nic for nic in plan.nics if nic.role == "public")
    assert plan.backend(public, links, lambda *_: 1, lambda _: UdpCable(3, 4)) == UdpCable(1, 2)
    (user,) = [
        end
        for _mac, end in plan.tenant_nics(plan.tenants[0], links, lambda *_: 1)
        if isinstance(end, UserNet)
    ]
    assert ("192.0.2.10", 2222) in {(forward.address, forward.port) for forward in user.forwards}


def test_a_host_serves_every_port_that_a_rule_speaks_of():
    (tenants,) = around(network.load("vpc")).tenants
    ports = {host.name: host.ports for host in tenants.hosts}
    assert ports == {"web1": (7, 22), "db1": (7, 22, 5432), "internet": (7, 22), "partner": (7, 22)}
    assert {host.name: host.extra for host in tenants.hosts}["partner"] == ("172.30.0.1/32",)


def test_the_guest_reads_one_line_for_each_host_and_uplink():
    dynamic = TenantHost("vm1", "02:00:00:00:00:01", "eth0", "10.1.1.50")
    fixed = TenantHost(
        "out", "02:00:00:00:00:02", "eth2", "192.0.2.99/24", "192.0.2.1", (7,), ("172.30.0.1/32",)
    )
    assert dynamic.line("eth0") == "vm1 eth0 dhcp - - - 7,22"
    assert fixed.line("eth1") == "out eth1 192.0.2.99/24 192.0.2.1 - - 7 172.30.0.1/32"
    both = replace(fixed, address6="2001:db8:ff::99/64", gateway6="2001:db8:ff::2", extra=())
    assert both.line("eth1") == "out eth1 192.0.2.99/24 192.0.2.1 2001:db8:ff::99/64 2001:db8:ff::2 7"
    uplink = Uplink("up", "eth2", IPv4Network("192.0.2.0/24"), IPv4Address("192.0.2.1"), ("a", "b"))
    assert uplink.line("eth2", "eth3") == "up eth2 eth3 192.0.2.0/24 192.0.2.1 192.0.2.2"


@pytest.mark.parametrize("tiers", [0, 1, 11])
def test_a_vpc_has_from_none_to_eleven_tiers(tiers):
    declared = network.parse(vpc_of(tiers))
    bags = network.bags_of(network.Orders(declared, "4.22").start())
    plugged = [bag.content for bag in bags if bag.stem == "guest_network"]
    lists = [bag.content for bag in bags if bag.stem == "network_acl"]
    assert [(bag["device"], bag["router_guest_ip"]) for bag in plugged] == [
        (f"eth{n + 2}", f"10.20.{n + 1}.1") for n in range(tiers)
    ]
    assert [bag["device"] for bag in lists] == [bag["device"] for bag in plugged]
    plan = around(declared)
    assert plan.present_at_boot == 1
    assert FIRST_NIC_SLOT + len(plan.nics) <= 0x20  # the PCI bus has no more
    assert len(plan.segments) == tiers + 1


def vpc_of(tiers):
    """Return a VPC in which every machine may reach port 80 of every other one."""
    nics = [
        {"device": "eth0", "role": "control", "address": "169.254.20.5/16", "mac": "0e:00:a9:fe:14:05"},
        {"device": "eth1", "role": "public", "address": "198.51.100.10/24", "mac": "1e:00:aa:00:00:05"},
    ]
    nics += [
        {
            "device": f"eth{n + 2}",
            "role": "tier",
            "address": f"10.20.{n + 1}.1/24",
            "mac": f"02:00:5b:1c:00:{n:02x}",
        }
        for n in range(tiers)
    ]
    machines = [
        {"name": f"vm{n}", "mac": f"02:00:5b:1c:01:{n:02x}", "address": f"10.20.{n + 1}.50"}
        for n in range(tiers)
    ]
    acls = [{"device": f"eth{n + 2}", "ports": 80} for n in range(tiers)]
    acls += [{"device": f"eth{n + 2}", "direction": "egress", "protocol": "all"} for n in range(tiers)]
    return {
        "name": "generated", "type": "vpcrouter", "domain": "cs2.cloud.internal", "dns": ["192.0.2.3"], "nic": nics,
        "machine": machines, "acl": acls, "public_address": [{"address": "198.51.100.10", "source_nat": True}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("release", "begins"), [("4.15", "MASTER"), ("4.16", "PRIMARY"), ("4.22", "PRIMARY")]
)
def test_the_routers_of_a_pair_differ_in_their_own_addresses_only(release, begins):
    declared = network.load("redundant")
    first, second = pair_around(declared, release)
    assert (first.vm_name, second.vm_name) == ("r-10-VM", "r-11-VM")
    assert [nic.address for nic in first.nics] == ["10.1.1.11", "169.254.12.34", "192.0.2.10"]
    assert [nic.address for nic in second.nics] == ["10.1.1.12", "169.254.12.44", "192.0.2.10"]
    octets = "".join(f":{int(part):02x}" for part in second.control.address.split("."))
    assert second.control.mac == f"0e:00{octets}"
    for plan, state in ((first, begins), (second, "BACKUP")):
        words = plan.cmdline("ssh-ed25519 AAAA", catalogue.load().release("4.22")).split()
        assert {
            "redundant_router=1",
            f"redundant_state={state}",
            "guestgw=10.1.1.1",
            "guestbrd=10.1.1.255",
        } <= set(words)
        assert [word for word in words if "type=" in word] == ["type=router"]


def test_the_tenant_guest_holds_the_far_ends_of_both_routers_cables():
    first, second = pair_around(network.load("redundant"), "4.22")
    cables = tuple((device, UdpCable(100 + n, 200 + n)) for n, device in enumerate(first.segments))
    first, second = replace(first, peer_cables=cables), replace(second, own_cables=cables)
    links = {device: UdpCable(300 + n, 400 + n) for n, device in enumerate(first.segments)}
    ends = [end for _mac, end in first.tenant_nics(first.tenants[0], links, lambda *_: 1)]
    held = {cable for end in ends if isinstance(end, Star) for cable in end.links}
    assert held == {link.other_end for link in [*links.values(), *dict(cables).values()]}
    own = {
        second.backend(nic, {}, lambda *_: 1, lambda _: UdpCable(9, 9))
        for nic in second.nics
        if nic.role != "control"
    }
    assert own == set(dict(cables).values())


def test_machines_of_a_pair_use_the_shared_gateway():
    declared = network.load("redundant")
    (entry,) = [
        bag.content
        for bag in network.bags_of(network.Orders(declared, "4.22").start())
        if bag.stem == "vm_dhcp_entry"
    ]
    assert entry["default_gateway"] == "10.1.1.1"
    with pytest.raises(UsageError, match=r"\[redundant\] is missing"):
        network.load("router").second_router()


def test_a_pair_is_no_network_for_a_single_vm():
    with pytest.raises(UsageError, match="'redundant' declares a redundant pair"):
        Wish("router", "4.21", "4.22", network="redundant").declared()


def test_machines_of_a_shared_network_have_another_gateway_than_their_name_server():
    declared = network.load("dhcpsrvr")
    assert network.bags_of(network.Orders(declared, "4.22").reapply()) == ()
    entries = [
        bag.content
        for bag in network.bags_of(network.Orders(declared, "4.22").start())
        if bag.stem == "vm_dhcp_entry"
    ]
    assert {entry["default_gateway"] for entry in entries} == {"10.1.1.1"}
    assert str(declared.gateway_of(declared.machines[0].address)) == "10.1.1.5"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("router", set()),
        ("vpc", {"vpccidr=10.20.0.0/16", "source_nat_ip=198.51.100.10"}),
        ("vpc-routed", {"vpccidr=10.30.0.0/16", "is_routed=true", "source_nat_ip=198.51.100.10"}),
        ("router-ipv6", {"eth0ip6=2001:db8:1::1", "eth0ip6prelen=64", "ip6firewall=true", "eth2ip6=2001:db8:ff::2",
                         "eth2ip6prelen=64", "ip6gateway=2001:db8:ff::1", "ip6dns1=2001:db8:ff::53"}),
    ],
)  # fmt: skip
def test_the_cmdline_has_the_words_of_what_a_network_declares(name, expected):
    words = around(network.load(name)).cmdline("ssh-ed25519 AAAA", catalogue.load().release("4.22")).split()
    own = {word for word in words if word.startswith(("vpccidr", "source_nat", "is_routed")) or "ip6" in word}
    assert own == expected
    assert len({word.partition("=")[0] for word in words}) == len(words)


def test_a_second_public_nic_comes_after_the_boot_and_loopback_is_not_on_it():
    plan = around(network.load("two-public"))
    assert [nic.later for nic in plan.nics] == [False, False, False, True]
    assert (
        "eth3ip=203.0.113.10"
        not in plan.cmdline("ssh-ed25519 AAAA", catalogue.load().release("4.22")).split()
    )
    assert {address for address, _port in plan.exposed} == {"192.0.2.10"}
    assert plan.segments == ("eth0", "eth2", "eth3")


def test_what_a_host_of_a_second_public_network_answers_finds_its_way_to_an_address_of_the_first_one():
    (tenants,) = around(network.load("two-public")).tenants
    gateways = {host.name: host.gateway for host in tenants.hosts if host.device in ("eth2", "eth3")}
    assert gateways == {"internet": "", "provider": "203.0.113.1"}
    (transit,) = tenants.transits
    assert transit.devices == ("eth2", "eth3")
    assert transit.line("eth6", "eth7") == "transit0 eth6 eth7 192.0.2.254/24 203.0.113.1/24"
    assert [spec.transits for spec in around(network.load("router")).tenants] == [()]


def test_two_further_public_networks_have_a_way_each_and_no_address_twice():
    declared = network.load("two-public")
    further = replace(
        declared.publics[1], device="eth4", address=IPv4Interface("198.51.100.10/24"), gateway=None
    )
    (tenants,) = around(replace(declared, nics=(*declared.nics, further))).tenants
    assert [transit.line("a", "b") for transit in tenants.transits] == [
        "transit0 a b 192.0.2.254/24 203.0.113.1/24",
        "transit1 a b 192.0.2.253/24 198.51.100.254/24",
    ]
    assert len({mac for transit in tenants.transits for mac in transit.macs}) == 4


def test_an_outsider_reaches_machines_by_ipv6_through_the_router():
    (tenants,) = around(network.load("router-ipv6")).tenants
    hosts = {host.name: (host.address6, host.gateway6) for host in tenants.hosts}
    assert hosts == {"vm1": ("", ""), "internet": ("2001:db8:ff::99/64", "2001:db8:ff::2")}
    assert not tenants.programs


def test_far_ends_run_programs_of_the_template_whose_disk_nobody_writes():
    plan = around(network.load("vpn"))
    (tenants,) = plan.tenants
    assert {host.name: host.extra for host in tenants.hosts} == {
        "web1": (), "internet": ("10.9.0.1/32", "10.8.0.1/32"), "caller": (),
    }  # fmt: skip
    assert tenants.programs
    assert tenants.memory_mib > around(network.load("vpc")).tenants[0].memory_mib


def test_machines_of_a_further_subnet_are_behind_the_same_nic():
    declared = network.load("shared-two-ranges")
    (tenants,) = around(declared).tenants
    assert [host.device for host in tenants.hosts] == ["eth0", "eth0"]
    assert str(declared.gateway_of(declared.machines[1].address)) == "10.1.2.5"
    assert str(declared.way_out_of(declared.machines[1].address)) == "10.1.2.5"
    assert str(declared.way_out_of(declared.machines[0].address)) == "10.1.1.1"


@pytest.mark.parametrize(
    ("vm_type", "release", "unsent"),
    [
        ("consoleproxy", "4.17", {"vncport"}),
        ("consoleproxy", "4.18", set()),
        ("consoleproxy", "4.16", {"vncport", "keystore_password"}),
        ("secstorage", "4.17", {"useHttpsToUpload"}),
        ("vpcrouter", "4.20", {"has_public_network"}),
        ("router", "4.17", {"privateMtu", "publicMtu", "logrotatefrequency"}),
    ],
)
def test_a_server_sends_no_parameter_that_later_ones_send_first(vm_type, release, unsent):
    rows, plan = catalogue.load(), types.of_type(vm_type)

    def sent(name):
        return {
            word.partition("=")[0] for word in plan.cmdline("ssh-ed25519 AAAA", rows.release(name)).split()
        }

    assert sent("4.22") - sent(release) == unsent
    assert sent(release) <= sent("4.22")
