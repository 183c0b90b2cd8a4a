"""Types other than routers, and what a router does beside routing."""

from pathlib import Path

import pytest

from tests.guest.rules.testbed import eventually, laboratory

SHARED = {
    "type": "dhcpsrvr",
    "name": "r-30-VM",
    "eth0ip": "10.1.1.5",
    "eth0mask": "255.255.255.0",
    "gateway": "10.1.1.1",
    "domain": "cs3.cloud.internal",
    "dhcprange": "10.1.1.1",
    "eth1ip": "169.254.12.34",
    "eth1mask": "255.255.0.0",
    "dns1": "192.0.2.53",
}
INTERNAL = {
    "type": "ilbvm",
    "name": "b-40-VM",
    "eth0ip": "10.1.1.100",
    "eth0mask": "255.255.255.0",
    "gateway": "10.1.1.1",
    "eth1ip": "169.254.12.34",
    "eth1mask": "255.255.0.0",
}
MONITOR = {
    "config": "[haproxy]:processname=haproxy:servicename=haproxy:pidfile=/run/haproxy.pid:,",
    "health_checks_enabled": True,
    "health_checks_basic_run_interval": 3,
    "health_checks_advanced_run_interval": 10,
    "excluded_health_checks": "",
    "health_checks_config": {},
    "delete_from_processed_cache": False,
}
VM1, VM2 = "02:00:26:c3:00:02", "02:00:26:c3:00:03"


@pytest.fixture
def without_public():
    with laboratory(public=None) as lab:
        yield lab


def test_a_dhcp_server_serves_addresses_names_and_metadata_but_does_not_route(without_public, get):
    lab = without_public
    lab.boot(SHARED)
    vm = lab.vm(VM1, "10.1.1.50", gateway="10.1.1.5")
    lab.send(
        "dhcpentry", mac_address=VM1, ipv4_address="10.1.1.50", host_name="vm1", default_gateway="10.1.1.1"
    )
    lab.send("vmdata", vm_ip_address="10.1.1.50", vm_metadata=[["metadata", "local-ipv4", "10.1.1.50"]])
    assert get(vm, "http://10.1.1.5/latest/local-ipv4") == "10.1.1.50"
    assert (
        "10.1.1.50" in vm.run("busybox", "nslookup", "vm1.cs3.cloud.internal", "10.1.1.5", check=False).stdout
    )
    assert "dhcp-option=tag:interface-eth0-0,3,10.1.1.1" in lab.router.read("/etc/dnsmasq.d/cloud.conf")
    assert ":FORWARD DROP" in lab.router.run("iptables-save").stdout
    assert lab.router.run("iptables-save").stdout.count("-A FORWARD") == 0


def test_a_machine_of_a_shared_network_gets_the_ipv6_address_that_its_identity_is_promised(without_public):
    lab = without_public
    lab.boot({**SHARED, "eth0ip6": "2001:db8:3::5", "eth0ip6prelen": "64", "ip6dns1": "2001:db8::53"})
    vm = lab.vm(VM1, "10.1.1.50")
    identity = f"00:03:00:01:{VM1}"

    def given(who=identity):
        client = ("python3", str(Path(__file__).with_name("dhcp6.py")), "eth0", who)
        return vm.run(*client, timeout=20).stdout

    # Its own address is one that nobody else has, before it may ask with it.
    assert eventually(lambda: "tentative" not in vm.sh("ip -6 -o address show dev eth0").stdout)
    entry = {"mac_address": VM1, "ipv4_address": "10.1.1.50", "host_name": "vm1", "ipv6_duid": identity}
    lab.send("dhcpentry", **entry, ipv6_address="2001:db8:3::50")
    assert given() == "2001:db8:3::50 2001:db8::53\n"
    assert given("00:03:00:01:02:00:00:00:00:99") == ""
    lab.send("dhcpentry", **entry, ipv6_address="2001:db8:3::51")
    assert given() == "2001:db8:3::51 2001:db8::53\n"


def test_an_internal_load_balancer_balances_and_opens_nothing_else(without_public, make, get):
    lab = without_public
    lab.boot(INTERNAL, services=("haproxy",))
    server, client = lab.vm(VM1, "10.1.1.50"), lab.vm(VM2, "10.1.1.60")
    lab.site(server, "vm1")
    lab.site(server, "hidden", port=8080)
    assert get(client, "http://10.1.1.100/") is None
    lab.send("loadbalancer", rules=[make.balancer(("10.1.1.100", 80, ["10.1.1.50:80"]))])
    assert get(client, "http://10.1.1.100/") == "vm1"
    lab.router.start("busybox", "httpd", "-p", "8080").wait()
    assert get(client, "http://10.1.1.100:8080/") is None
