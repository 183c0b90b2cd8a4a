"""A redundant pair: two routers with keepalived on one guest and one public network."""

from contextlib import ExitStack

import pytest

from tests.guest.rules.testbed import HERE, PAYLOAD, ROUTER, RouterTestbed, connect, eventually, fetch, space

VM = "02:00:26:c3:00:02"
SHARED = {
    "redundant_router": "1",
    "advert_int": "1",
    "guestgw": "10.1.1.1",
    "guestbrd": "10.1.1.255",
    "guestcidrsize": "24",
    "router_password": "secret12",
}


def member(stack, lan, wan, number, state):
    """Start one router of the pair; both have the same public address, as in CloudStack."""
    router = stack.enter_context(space("bash", str(HERE / "inside.sh"), str(PAYLOAD), str(HERE)))
    host = stack.enter_context(space())
    connect(lan, f"r{number}", router, "eth0", f"02:00:00:00:00:0{number}")
    connect(host, "eth0", router, "eth1", f"0e:00:a9:fe:0c:2{number}")
    connect(wan, f"r{number}", router, "eth2", f"1e:00:00:00:00:0{number}")
    lan.sh(f"ip link set r{number} master br0 up")
    wan.sh(f"ip link set r{number} master br0 up")
    router.sh(
        f"ip address add 169.254.12.3{number}/16 dev eth1; ip link set eth1 up;"
        "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind"
    )
    lab = RouterTestbed(stack, router, lan, wan, host)
    own = {"name": f"r-{number}-VM", "eth0ip": f"10.1.1.1{number}", "eth1ip": f"169.254.12.3{number}"}
    parameters = {**ROUTER, **SHARED, **own, "redundant_state": state}
    lab.send("cmdline", name="cmd_line.json", cmd_line=parameters)
    router.sh("for s in haproxy apache2 keepalived; do systemctl start $s.service; done")
    router.sh("date > /var/cache/cloud/boot_up_done")
    return lab


@pytest.fixture
def pair():
    """The two routers, the one that is to be primary first."""
    with ExitStack() as stack:
        lan, wan = stack.enter_context(space()), stack.enter_context(space())
        for place in (lan, wan):
            place.sh("ip link add br0 type bridge; ip link set br0 up")
        wan.sh("ip address add 192.0.2.1/24 dev br0")
        first = member(stack, lan, wan, 1, "PRIMARY")
        assert eventually(lambda: role(first) == "PRIMARY", 20)
        yield first, member(stack, lan, wan, 2, "BACKUP")


def role(lab):
    return lab.router.sh("/opt/cloud/bin/checkrouter.sh").stdout.strip().removeprefix("Status: ")


def has(lab, address):
    return address in lab.router.sh("ip -o -4 address").stdout


def test_one_is_primary_and_alone_has_gateway_and_public_address(pair):
    first, second = pair
    assert eventually(lambda: has(first, "192.0.2.10/24") and has(first, "10.1.1.1/24"))
    assert role(second) == "BACKUP"
    assert not has(second, "192.0.2.10/24")
    assert not has(second, "10.1.1.1/24")
    assert "default" not in second.router.sh("ip route").stdout


def test_the_other_takes_over_and_serves(pair, make):
    first, second = pair
    vm = first.vm(VM, "10.1.1.50")
    first.site(vm, "vm1")
    for lab in pair:
        lab.send("dhcpentry", mac_address=VM, ipv4_address="10.1.1.50", host_name="vm1")
        lab.send("firewallrules", rules=[make.firewall(5, "192.0.2.10", 80)])
        lab.send("loadbalancer", rules=[make.balancer(("192.0.2.10", 80, ["10.1.1.50:80"]))])
    assert eventually(lambda: fetch(first.outside, "http://192.0.2.10/") == "vm1")
    first.router.sh("systemctl stop keepalived.service")
    assert eventually(lambda: role(second) == "PRIMARY", 20)
    assert eventually(lambda: has(second, "192.0.2.10/24") and has(second, "10.1.1.1/24"))
    assert eventually(lambda: fetch(second.outside, "http://192.0.2.10/") == "vm1")
    answer = vm.run("busybox", "nslookup", "vm1.cs1.cloud.internal", "10.1.1.1", check=False).stdout
    assert "10.1.1.50" in answer


def runs(lab, unit):
    return lab.router.run("systemctl", "is-active", unit, check=False).status == 0


def test_the_one_that_lost_the_role_gives_its_addresses_up(pair):
    first, second = pair
    assert eventually(lambda: runs(first, "dnsmasq.service"))
    first.router.sh("systemctl stop keepalived.service")
    assert eventually(lambda: role(second) == "PRIMARY", 20)
    assert eventually(lambda: not has(first, "192.0.2.10/24") and not has(first, "10.1.1.1/24"))
    # Two of them on one network would give the same machine two addresses.
    assert eventually(lambda: not runs(first, "dnsmasq.service"))
    assert eventually(lambda: runs(second, "dnsmasq.service"))


def test_a_router_that_returns_does_not_take_the_role_back(pair):
    first, second = pair
    first.router.sh("systemctl stop keepalived.service")
    assert eventually(lambda: role(second) == "PRIMARY", 20)
    first.router.sh("systemctl start keepalived.service")
    assert eventually(lambda: role(first) == "BACKUP", 20)
    # It would take the role after three announcements of the other one that it is better than.
    assert not eventually(lambda: role(first) == "PRIMARY", 4.5)
    assert role(second) == "PRIMARY"
    assert not has(first, "192.0.2.10/24")


def test_the_standby_knows_the_flows_of_the_primary(pair, make):
    first, second = pair
    vm = first.vm(VM, "10.1.1.50")
    first.site(vm, "vm1")
    for lab in pair:
        lab.send("firewallrules", rules=[make.firewall(5, "192.0.2.10", 8000)])
        lab.send("forwardrules", rules=[make.forward("192.0.2.10", 8000, "10.1.1.50", 80)])
    assert eventually(lambda: fetch(first.outside, "http://192.0.2.10:8000/") == "vm1")
    assert eventually(lambda: "dport=8000" in second.router.run("conntrackd", "-e").stdout)
