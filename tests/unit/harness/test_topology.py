"""Who sits where: NICs of declared networks, their cables, and the hosts of the tenant guest."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from harness import network, topology
from harness.netdev import Link, Star, UserNet
from harness.tenant import Host, Uplink


def test_a_vpc_router_boots_with_its_control_nic_alone():
    plan = topology.around(network.load("vpc"))
    assert [nic.role for nic in plan.nics] == ["control", "public", "tier", "tier", "private"]
    assert plan.present_at_boot == 1
    words = plan.cmdline("ssh-ed25519 AAAA").split()
    assert "eth0ip=169.254.20.5" in words
    assert not any(word.startswith("eth1") for word in words)


@pytest.mark.parametrize("name", ["router", "vpc"])
def test_every_segment_has_one_cable_and_every_host_a_nic(name):
    plan = topology.around(network.load(name))
    (tenants,) = plan.tenants
    links = {device: Link(1000 + n, 2000 + n) for n, device in enumerate(plan.segments)}
    nics = plan.tenant_nics(tenants, links, lambda _address, _port: 30000)
    stars = [end for _mac, end in nics if isinstance(end, Star)]
    cables = [cable for star in stars for cable in star.links]
    assert sorted(cables, key=lambda cable: cable.remote_port) == [link.other_end for link in links.values()]
    assert len(nics) == len(tenants.hosts) + 2 * len(tenants.uplinks)
    for host, (mac, star) in zip(tenants.hosts, nics, strict=False):
        assert (mac, star.hub_id) == (host.mac, int(host.device[3:]))


def test_loopback_comes_in_through_the_uplink_and_not_through_the_router():
    plan = topology.around(network.load("router"))
    links = {device: Link(1, 2) for device in plan.segments}
    public = next(nic for nic in plan.nics if nic.role == "public")
    assert plan.backend(public, links, lambda *_: 1, lambda _: Link(3, 4)) == Link(1, 2)
    (user,) = [
        end
        for _mac, end in plan.tenant_nics(plan.tenants[0], links, lambda *_: 1)
        if isinstance(end, UserNet)
    ]
    assert ("192.0.2.10", 2222) in {(forward.address, forward.port) for forward in user.forwards}


def test_a_host_serves_every_port_that_a_rule_speaks_of():
    (tenants,) = topology.around(network.load("vpc")).tenants
    ports = {host.name: host.ports for host in tenants.hosts}
    assert ports == {"web1": (7, 22), "db1": (7, 22, 5432), "internet": (7, 22), "partner": (7, 22)}
    assert {host.name: host.extra for host in tenants.hosts}["partner"] == ("172.30.0.1/32",)


def test_the_guest_reads_one_line_for_each_host_and_uplink():
    dynamic = Host("vm1", "02:00:00:00:00:01", "eth0", "10.1.1.50")
    fixed = Host("out", "02:00:00:00:00:02", "eth2", "192.0.2.99/24", "192.0.2.1", (7,), ("172.30.0.1/32",))
    assert dynamic.line("eth0") == "vm1 eth0 dhcp - 7,22"
    assert fixed.line("eth1") == "out eth1 192.0.2.99/24 192.0.2.1 7 172.30.0.1/32"
    uplink = Uplink("up", "eth2", IPv4Network("192.0.2.0/24"), IPv4Address("192.0.2.1"), ("a", "b"))
    assert uplink.line("eth2", "eth3") == "up eth2 eth3 192.0.2.0/24 192.0.2.1 192.0.2.2"
