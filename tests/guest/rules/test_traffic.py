"""What VMs and the outside see of a router, judged by real clients."""

import base64
import shlex
import subprocess
from pathlib import Path

import pytest

UDHCPC = Path(__file__).with_name("udhcpc.sh")
VM1, VM2 = "02:00:26:c3:00:02", "02:00:26:c3:00:03"
EGRESS_ALLOWED = {
    "protocol": "all",
    "source_cidr_list": [],
    "traffic_type": "Egress",
    "default_egress_policy": True,
}


def entry(mac, address, name, **more):
    return {
        "host_name": name,
        "mac_address": mac,
        "ipv4_address": address,
        "default_gateway": "10.1.1.1",
        **more,
    }


def ask_for_address(vm):
    return vm.sh(
        f"busybox udhcpc -i eth0 -n -q -t 4 -T 1 -O mtu -s {shlex.quote(str(UDHCPC))}", check=False
    ).stdout


def seen_from_outside(lab, vm):
    """Return the address that a connection of a VM seems to come from."""
    program = (
        "import socket; s = socket.create_server(('', 7000)); s.settimeout(5); print('ready', flush=True);"
    )
    program += "print(s.accept()[1][0])"
    with lab.outside.background("python3", "-c", program, stdout=subprocess.PIPE) as server:
        assert server.stdout.readline() == "ready\n"
        vm.sh("busybox nc -w 2 192.0.2.1 7000 </dev/null", check=False)
        return server.stdout.readline().strip()


def unchecked(rule):
    """Return a load-balancer rule without health checks, which would use up a server of one connection."""
    return {**rule, "configuration": [line.replace(" check", "") for line in rule["configuration"]]}


def open_egress(lab, make):
    lab.send("firewallrules", rules=[make.firewall(1, "192.0.2.10", 1, **EGRESS_ALLOWED)])


def test_dhcp_gives_the_reserved_address_with_the_options_of_the_network(lab):
    vm = lab.vm(VM1)
    lab.send("dhcpentry", **entry(VM1, "10.1.1.50", "vm1"))
    assert (
        "bound ip=10.1.1.50 mask=255.255.255.0 router=10.1.1.1 dns=10.1.1.1 192.0.2.1 "
        "domain=cs1.cloud.internal mtu=1500" in ask_for_address(vm)
    )


def test_dhcp_gives_nothing_to_a_stranger(lab):
    vm = lab.vm(VM1)
    lab.send("dhcpentry", **entry(VM2, "10.1.1.50", "vm2"))
    assert "bound" not in ask_for_address(vm)


def test_dhcp_leaves_out_the_gateway_where_the_network_is_not_the_default_one(lab):
    vm = lab.vm(VM1)
    lab.send("dhcpentry", **entry(VM1, "10.1.1.50", "vm1", default_entry=False))
    assert "bound ip=10.1.1.50 mask=255.255.255.0 router= dns= domain= " in ask_for_address(vm)


def test_a_new_entry_does_not_restart_dnsmasq_and_a_lease_can_be_renewed_after_it(lab, wait):
    vm = lab.vm(VM1)
    lab.send("dhcpentry", **entry(VM1, "10.1.1.50", "vm1"))
    vm.sh("mount -t tmpfs tmpfs /mnt; touch /mnt/dhcp")
    with vm.background("bash", "-c", f"exec busybox udhcpc -f -i eth0 -s {UDHCPC} >/mnt/dhcp"):
        assert wait(lambda: "bound ip=10.1.1.50" in vm.read("/mnt/dhcp"))
        lab.asked()
        lab.send("dhcpentry", **entry(VM2, "10.1.1.60", "vm2"))
        assert lab.asked() == ["kill --kill-who=main --signal=HUP dnsmasq.service"]
        vm.sh("kill -USR1 $(busybox pidof busybox)")
        assert wait(lambda: "renew ip=10.1.1.50" in vm.read("/mnt/dhcp"))


def test_an_address_can_be_given_to_another_vm_although_its_lease_never_ends(lab):
    first, second = lab.vm(VM1), lab.vm(VM2)
    lab.send("dhcpentry", **entry(VM1, "10.1.1.50", "vm1"))
    assert "bound ip=10.1.1.50" in ask_for_address(first)
    lab.send("dhcpentry", **entry(VM1, "10.1.1.50", "vm1", remove=True))
    lab.send("dhcpentry", **entry(VM2, "10.1.1.50", "vm2"))
    assert "bound ip=10.1.1.50" in ask_for_address(second)


def test_dns_answers_the_names_of_vms(lab):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.send("dhcpentry", **entry(VM2, "10.1.1.60", "vm2"))
    for name in ("vm2", "vm2.cs1.cloud.internal"):
        assert "10.1.1.60" in vm.run("busybox", "nslookup", name, "10.1.1.1", check=False).stdout


def test_the_name_of_a_machine_that_is_gone_is_gone_although_it_held_a_lease(lab):
    vm, other = lab.vm(VM1), lab.vm(VM2, "10.1.1.60")
    lab.send("dhcpentry", **entry(VM2, "10.1.1.60", "vm2"))
    lab.send("dhcpentry", **entry(VM1, "10.1.1.50", "vm1"))
    assert "bound ip=10.1.1.50" in ask_for_address(vm)
    ask = ("busybox", "nslookup", "vm1.cs1.cloud.internal", "10.1.1.1")
    assert "10.1.1.50" in other.run(*ask, check=False).stdout
    lab.send("dhcpentry", **entry(VM1, "10.1.1.50", "vm1", remove=True))
    assert "10.1.1.50" not in other.run(*ask, check=False).stdout
    assert VM1 not in lab.router.read("/var/lib/misc/dnsmasq.leases")


def test_each_vm_gets_its_own_metadata_and_nobody_elses(lab, get):
    vm1, vm2 = lab.vm(VM1, "10.1.1.50"), lab.vm(VM2, "10.1.1.60")
    data = base64.b64encode(b"#cloud-config\n").decode()
    rows = [["userdata", "user-data", data], ["metadata", "service-offering", "Small Instance"]]
    rows += [["metadata", "local-ipv4", "10.1.1.50"], ["metadata", "public-keys", None]]
    lab.send("vmdata", vm_ip_address="10.1.1.50", vm_metadata=rows)
    assert get(vm1, "http://10.1.1.1/latest/user-data") == "#cloud-config"
    assert get(vm1, "http://10.1.1.1/latest/service-offering") == "Small Instance"
    assert get(vm1, "http://10.1.1.1/latest/meta-data/service-offering") == "Small Instance"
    assert get(vm1, "http://10.1.1.1/latest/meta-data/").split() == [
        "service-offering",
        "local-ipv4",
        "public-keys",
    ]
    assert get(vm2, "http://10.1.1.1/latest/user-data") is None
    assert get(vm2, "http://10.1.1.1/userdata/10.1.1.50/user-data") is None
    assert get(vm1, "http://10.1.1.1/metadata/10.1.1.50/meta-data") is not None
    assert get(vm1, "http://10.1.1.1/metadata/10.1.1.50/") is None
    other = base64.b64encode(b"#!/bin/sh\n").decode()
    lab.send("vmdata", vm_ip_address="10.1.1.60", vm_metadata=[["userdata", "user-data", other]])
    assert get(vm2, "http://10.1.1.1/latest/user-data") == "#!/bin/sh"
    # The next VM with the address gets nothing of the former one.
    lab.send("vmdata", vm_ip_address="10.1.1.50", vm_metadata=[["metadata", "vm-id", "9"]])
    assert get(vm1, "http://10.1.1.1/latest/vm-id") == "9"
    assert get(vm1, "http://10.1.1.1/latest/service-offering") is None


def test_a_password_is_handed_out_once(lab, get, wait):
    vm, other = lab.vm(VM1, "10.1.1.50"), lab.vm(VM2, "10.1.1.60")
    lab.send("vmpassword", ip_address="10.1.1.50", password="s3cret=x")
    url = "http://10.1.1.1:8080/"
    # It is the address that says who asks, whatever the request says.
    told = (
        "-H",
        "DomU_Request: send_my_password",
        "-H",
        "X-Forwarded-For: 10.1.1.50",
        "-H",
        "Host: 10.1.1.50",
    )
    assert wait(lambda: get(other, f"{url}10.1.1.50", *told) == "saved_password")
    assert wait(lambda: get(vm, url, "-H", "DomU_Request: send_my_password") == "s3cret=x")
    assert get(vm, url, "-H", "DomU_Request: saved_password") == "saved_password"
    assert get(vm, url, "-H", "DomU_Request: send_my_password") == "saved_password"


def test_port_forwarding_needs_the_firewall_rule_and_reaches_the_vm(lab, make, get):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(vm, "vm1")
    lab.send("forwardrules", rules=[make.forward("192.0.2.10", 8000, "10.1.1.50", 80)])
    assert get(lab.outside, "http://192.0.2.10:8000/") is None
    lab.send("firewallrules", rules=[make.firewall(5, "192.0.2.10", 8000)])
    assert get(lab.outside, "http://192.0.2.10:8000/") == "vm1"


def test_port_forwarding_works_from_inside_too(lab, make, get):
    vm1, vm2 = lab.vm(VM1, "10.1.1.50"), lab.vm(VM2, "10.1.1.60")
    lab.site(vm1, "vm1")
    lab.aggregate(
        ("forwardrules", {"rules": [make.forward("192.0.2.10", 8000, "10.1.1.50", 80)]}),
        ("firewallrules", {"rules": [make.firewall(5, "192.0.2.10", 8000)]}),
    )
    assert get(vm2, "http://192.0.2.10:8000/") == "vm1"


def test_a_revoked_forwarding_rule_no_longer_forwards(lab, make, get):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(vm, "vm1")
    lab.send("firewallrules", rules=[make.firewall(5, "192.0.2.10", 8000)])
    lab.send("forwardrules", rules=[make.forward("192.0.2.10", 8000, "10.1.1.50", 80)])
    assert get(lab.outside, "http://192.0.2.10:8000/") == "vm1"
    lab.send("forwardrules", rules=[make.forward("192.0.2.10", 8000, "10.1.1.50", 80, revoke=True)])
    assert get(lab.outside, "http://192.0.2.10:8000/") is None


def test_the_firewall_looks_at_the_source(lab, make, get):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(vm, "vm1")
    lab.outside.sh("ip address add 192.0.2.77/24 dev eth0")
    rule = make.firewall(5, "192.0.2.10", 8000, source_cidr_list=["192.0.2.77/32"])
    lab.send("firewallrules", rules=[rule])
    lab.send("forwardrules", rules=[make.forward("192.0.2.10", 8000, "10.1.1.50", 80)])
    assert get(lab.outside, "http://192.0.2.10:8000/") is None
    assert get(lab.outside, "http://192.0.2.10:8000/", "--interface", "192.0.2.77") == "vm1"


def test_static_nat_works_both_ways(lab, make, get):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(vm, "vm1")
    rule = {"revoke": False, "source_ip_address": "192.0.2.20", "destination_ip_address": "10.1.1.50"}
    opened = [make.firewall(5, "192.0.2.20", 80), make.firewall(6, "192.0.2.20", 1, **EGRESS_ALLOWED)]
    lab.aggregate(
        ("ips", {"ip_address": [make.ip("192.0.2.20", one_to_one_nat=True)]}),
        ("staticnatrules", {"rules": [{**rule, "source_port_range": "0:0"}]}),
        ("firewallrules", {"rules": opened}),
    )
    assert get(lab.outside, "http://192.0.2.20/") == "vm1"
    assert seen_from_outside(lab, vm) == "192.0.2.20"


def test_the_load_balancer_shares_requests_between_the_vms(lab, make, get, wait):
    vm1, vm2 = lab.vm(VM1, "10.1.1.50"), lab.vm(VM2, "10.1.1.60")
    lab.site(vm1, "vm1")
    lab.site(vm2, "vm2")
    lab.send("firewallrules", rules=[make.firewall(5, "192.0.2.10", 80)])
    lab.send("loadbalancer", rules=[make.balancer(("192.0.2.10", 80, ["10.1.1.50:80", "10.1.1.60:80"]))])
    answers = {get(lab.outside, "http://192.0.2.10/") for _ in range(6)}
    assert answers == {"vm1", "vm2"}


def test_a_new_load_balancer_rule_does_not_cut_the_connections_of_the_others(lab, make, get, wait):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(vm, "vm1")
    long = ("192.0.2.10", 9000, ["10.1.1.50:9000"])
    lab.send(
        "firewallrules", rules=[make.firewall(5, "192.0.2.10", 9000), make.firewall(6, "192.0.2.10", 80)]
    )
    lab.send("loadbalancer", rules=[unchecked(make.balancer(long))])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 1}
    with (
        vm.background("busybox", "nc", "-l", "-p", "9000", "-e", "cat"),
        lab.outside.background("busybox", "nc", "192.0.2.10", "9000", **pipes) as client,
    ):
        client.stdin.write("before\n")
        assert client.stdout.readline() == "before\n"
        lab.send("loadbalancer", rules=[unchecked(make.balancer(long, ("192.0.2.10", 80, ["10.1.1.50:80"])))])
        assert get(lab.outside, "http://192.0.2.10/") == "vm1"
        client.stdin.write("after\n")
        assert client.stdout.readline() == "after\n"


def test_egress_is_denied_until_a_rule_allows_it(lab, make, get):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(lab.outside, "world", port=8000)
    assert get(vm, "http://192.0.2.1:8000/") is None
    rule = make.firewall(
        7,
        "192.0.2.10",
        8000,
        traffic_type="Egress",
        source_cidr_list=["10.1.1.0/24"],
        dest_cidr_list=["192.0.2.0/24"],
    )
    lab.send("firewallrules", rules=[rule])
    assert get(vm, "http://192.0.2.1:8000/") == "world"
    lab.send("firewallrules", rules=[{**rule, "revoked": True}])
    assert get(vm, "http://192.0.2.1:8000/") is None


def test_egress_is_allowed_by_default_where_the_policy_says_so_and_a_rule_denies_it(lab, make, get):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(lab.outside, "world", port=8000)
    open_egress(lab, make)
    assert get(vm, "http://192.0.2.1:8000/") == "world"
    deny = make.firewall(
        8,
        "192.0.2.10",
        8000,
        traffic_type="Egress",
        source_cidr_list=["10.1.1.50/32"],
        default_egress_policy=True,
    )
    lab.send("firewallrules", rules=[deny])
    assert get(vm, "http://192.0.2.1:8000/") is None


@pytest.mark.parametrize("destinations", [[], ["0.0.0.0/0"]])
@pytest.mark.parametrize("allowed", [True, False])
def test_the_default_of_a_network_is_the_rule_that_speaks_of_every_source(
    lab, make, get, allowed, destinations
):
    vm = lab.vm(VM1, "10.1.1.50")
    lab.site(lab.outside, "world", port=8000)
    default = {**EGRESS_ALLOWED, "dest_cidr_list": destinations, "default_egress_policy": allowed}
    lab.send("firewallrules", rules=[make.firewall(0, "", 0, **default)])
    assert get(vm, "http://192.0.2.1:8000/") == ("world" if allowed else None)


def test_guests_appear_outside_with_the_source_nat_address(lab, make):
    vm = lab.vm(VM1, "10.1.1.50")
    open_egress(lab, make)
    assert seen_from_outside(lab, vm) == "192.0.2.10"


def test_the_router_itself_is_closed_to_the_outside(lab, get):
    assert get(lab.outside, "http://192.0.2.10/") is None
    for port in (22, 53, 3922, 8080):
        done = lab.outside.sh(f"busybox nc -w 1 192.0.2.10 {port} </dev/null", check=False)
        assert done.status != 0, f"port {port} is open"
