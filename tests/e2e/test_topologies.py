"""Topologies of many NICs or VMs: a VPC router whose tiers are plugged in, and a redundant pair that fails over."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Interface

import pytest

from bundle import catalogue
from harness import network
from harness.lab.golden_maker import require
from harness.lab.lab import open_lab
from harness.lab.management_network import management_of, site_of
from harness.lab.pair import open_pair
from harness.lab.wish import Wish
from harness.network.model import Acl, DeclaredMachine, DeclaredNic
from harness.record import results
from harness.record.events import EventLog
from harness.site import nfs
from harness.traffic.proofs import prove
from harness.vm import hotplug
from harness.vm.cables import HostForward
from harness.vm.tenant.tenant import TenantHost

# Everything that applying rules may change, without counters and times.
STATE = """
iptables-save | grep -v '^#' | sed 's/\\[.*//'; ip -o -4 address; ip route show table all; ip rule
cat /etc/haproxy/haproxy.cfg /etc/dhcphosts.txt /etc/dnsmasq.d/* /var/www/html/latest/.htaccess
for unit in haproxy dnsmasq apache2; do systemctl show -p InvocationID -p MainPID -p NRestarts $unit; done
pgrep -x haproxy; pgrep -x dnsmasq; pgrep -x apache2
"""
TIER = DeclaredNic("eth5", "tier", IPv4Interface("10.20.3.1/24"), "02:00:5b:1c:00:03")


@contextmanager
def lab_of(vm_type, folder):
    facts = catalogue.load()
    record = results.create(folder)
    wish = Wish(vm_type, facts.default_from, facts.default)
    with EventLog(record.events) as events, open_lab(wish, record, events) as lab:
        yield lab


def orders_of(declared):
    return network.Orders(declared, catalogue.load().default_from, int(time.time() * 1000))


@pytest.fixture(scope="module")
def vpc(tmp_path_factory):
    with lab_of("vpcrouter", tmp_path_factory.mktemp("vpc")) as lab:
        yield lab


@pytest.fixture(scope="module")
def secstorage(tmp_path_factory):
    with lab_of("secstorage", tmp_path_factory.mktemp("secstorage")) as lab:
        yield lab


def test_a_restored_vpc_router_answers_every_rule_and_applying_them_again_changes_nothing(vpc, nothing_left):
    with vpc.system_vm("vpc-rules") as vm:
        require(prove(vm, vpc.network))
        before = vm.guest.run(STATE).stdout
        # No NIC is plugged in again; each message is sent once more.
        steps = [step for step in orders_of(vpc.network).start() if not isinstance(step, network.Plug)]
        network.deliver(vm.guest, steps)
        assert vm.guest.run(STATE).stdout == before


def test_a_tier_is_plugged_into_a_running_vpc_router(vpc, nothing_left):
    app = DeclaredMachine("app1", "02:00:5b:1c:03:01", IPv4Interface("10.20.3.50/24").ip, "#!/bin/sh\n", ())
    acl = Acl("eth5", "ingress", "tcp", network.declaration.ports(80), (), True)
    wider = replace(
        vpc.network,
        nics=(*vpc.network.nics, TIER),
        machines=(*vpc.network.machines, app),
        acls=(*vpc.network.acls, acl),
    )
    with vpc.system_vm("vpc-tier") as vm:
        host = TenantHost("app1", app.mac, "eth5", str(app.address))
        orders = orders_of(wider)

        def plug(step):
            assert step.device == TIER.device
            hotplug.plug_tier(vm, TIER.mac, host)

        network.deliver(vm.guest, orders.tier_added(TIER), plug)
        network.deliver(vm.guest, orders.deployed(app))
        require(prove(vm, wider))


def test_a_pair_fails_over_when_the_primary_loses_its_power(lab, nothing_left):
    with open_pair(lab, "pair") as pair:
        assert sorted(pair.roles().values()) == ["BACKUP", "PRIMARY"]
        tenant = pair.tenants["vm1"]
        assert tenant.http("http://192.0.2.99/") == "tenant internet"
        survivor = pair.backup()
        pair.primary().machine.crash()
        began = time.monotonic()
        pair.settle()
        assert pair.primary() is survivor
        pair.prove()
        assert tenant.http("http://192.0.2.99/") == "tenant internet"
        assert time.monotonic() - began < 60


@pytest.mark.skipif(
    not nfs.installed(), reason="the NFS server nfs-ganesha (with nfs-ganesha-mem) is not installed"
)
def test_a_secondary_storage_vm_mounts_a_share_of_a_real_server(secstorage, nothing_left, tmp_path):
    lab = secstorage
    vm = lab.restore("nfs")
    try:
        with (
            nfs.serve(tmp_path) as port,
            management_of(
                vm, lab.golden.folder, tmp_path / "network.log", [HostForward(port, "10.0.0.6", 2049)]
            ),
        ):
            site_of(vm).connected()
            answer = site_of(vm).agents.ask("mount", 60, url=f"nfs://10.0.0.6{nfs.EXPORT}")
            assert answer["result"] is True, answer
            vm.guest.run(
                f"echo template >{answer['path']}/one && test $(cat {answer['path']}/one) = template"
            )
            assert "nfs4" in vm.guest.run(f"findmnt -n -o FSTYPE {answer['path']}").stdout
            assert site_of(vm).agents.ask("check_health", 30)["shares"] == [f"nfs://10.0.0.6{nfs.EXPORT}"]
            vm.guest.run(f"umount {answer['path']}")
    finally:
        vm.stop()
