"""What the harness sends in a server's place is taken by the payload, network by network, and changes nothing again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from ipaddress import IPv4Interface
from types import SimpleNamespace

import pytest

from bundle import catalogue
from harness import network
from harness.network import Orders, Plug
from harness.network.model import DeclaredNic
from harness.vm.around import around
from tests.guest.rules import far_end, tenants
from tests.guest.rules.testbed import RouterTestbed, fetch, laboratory

SHIPPED = sorted(file.name[:-5] for file in (files("harness.network") / "shipped").iterdir())
STATE = "iptables-save | grep -v '^#' | sed 's/ *\\[.*//'; ip -o -4 address show scope global; ip -4 route; ip -4 rule"


@dataclass
class Inside:
    """The router of a laboratory, as the sender sees a guest."""

    lab: RouterTestbed
    name: str = "laboratory"

    def run(self, command, *, deadline=60.0, stdin=b"", check=True):
        """Run a command in the router."""
        done = self.lab.router.run("bash", "-c", command, stdin=stdin.decode(), check=check, timeout=deadline)
        return SimpleNamespace(status=done.status, stdout=done.stdout, stderr=done.stderr, seconds=0.0)

    def put(self, data, path, mode=0o644):
        """Write a file in the router."""
        self.lab.router.write(path, data.decode())
        self.lab.router.run("chmod", f"{mode:o}", path)


@contextmanager
def started(name: str) -> Iterator[tuple[RouterTestbed, Orders]]:
    """Boot the router of a shipped network and send it all that a starting one is sent."""
    declared = network.load(name)
    plan = around(declared)
    macs = {nic.device: nic.mac for nic in declared.nics}
    late = {f"eth{number}" for number, nic in enumerate(plan.nics) if nic.later}
    with laboratory(guest=None, control=declared.control.device, public=None) as lab:
        for nic in declared.nics:
            if nic != declared.control and nic.device not in late:
                lab.plug_guest(nic.device, nic.mac, bridge=f"br-{nic.device}")
        words = [
            word.partition("=")
            for word in shlex.split(plan.cmdline("ssh-ed25519 AAAA", catalogue.load().release("4.22")))
        ]
        services = ("haproxy",) if declared.is_balancer else ("haproxy", "dnsmasq", "apache2")
        lab.boot({key: value for key, _, value in words}, services=services)

        def plug(step: Plug) -> None:
            lab.plug_guest(step.device, macs[step.device], bridge=f"br-{step.device}")

        orders = Orders(declared, "4.22", 1761830000000, ("Cloudstack Release 4.22.0", "ab12"))
        network.deliver(Inside(lab), orders.start(), plug)
        yield lab, orders


@pytest.mark.parametrize("name", SHIPPED)
def test_the_payload_takes_what_a_server_sends_and_again(name):
    with started(name) as (lab, orders):
        declared = orders.network
        before = lab.router.sh(STATE).stdout
        addresses = {word.partition("/")[0] for word in lab.router.sh("ip -o -4 address").stdout.split()}
        own = {str(nic.address.ip) for nic in declared.nics if nic.role in {"guest", "tier", "private"}}
        own |= {str(row.address) for row in declared.public_addresses} | {str(a.ip) for a in declared.aliases}
        if declared.redundant is None:  # the addresses of a pair are its primary's
            assert own <= addresses
        network.deliver(Inside(lab), orders.reapply())
        assert lab.router.sh(STATE).stdout == before
        if name in far_end.PROOFS:
            far_end.PROOFS[name](lab, orders)
        elif declared.redundant is None:
            tenants.require_rules(lab, declared)


def test_single_changes_go_and_come_back():
    with started("router") as (lab, orders):
        declared = orders.network
        nat = declared.static_nats[0].public
        changes = {
            "--dport 2222": orders.forwards_changed(declared.forwards[0].public, declared.forwards[:1]),
            "-s 192.0.2.99/32": orders.ingress_changed(nat, declared.ingress[-1:]),
            "--dport 7 ": orders.egress_changed(declared.egress),
            "-d 192.0.2.20/32 -p tcp -m tcp --dport 80": orders.balancers_changed(declared.load_balancers),
            "--to-source 192.0.2.30": orders.static_nat_changed(nat, on=False),
        }
        before = lab.router.sh(STATE).stdout
        for words, steps in changes.items():
            network.deliver(Inside(lab), steps)
            after = lab.router.sh(STATE).stdout
            gone = set(before.splitlines()) - set(after.splitlines())
            assert any(words in line for line in gone), (words, gone)
            network.deliver(Inside(lab), orders.reapply())
            assert sorted(lab.router.sh(STATE).stdout.splitlines()) == sorted(before.splitlines()), words


def test_machines_come_with_a_password_and_go():
    with started("router") as (lab, orders):
        machine = orders.network.machines[0]
        vm = lab.vm(machine.mac, str(machine.address), bridge="br-eth0")
        network.deliver(Inside(lab), orders.deployed(machine, "aB3 $x"))
        asked = ("-H", "DomU_Request: send_my_password")
        assert fetch(vm, "http://10.1.1.1:8080/", *asked) == "aB3 $x"
        assert machine.mac in lab.router.read("/etc/dhcphosts.txt")
        network.deliver(Inside(lab), orders.expunged(machine))
        assert machine.mac not in lab.router.read("/etc/dhcphosts.txt")


def test_a_tier_more_and_less():
    with started("vpc") as (lab, orders):
        tier = DeclaredNic("eth5", "tier", IPv4Interface("10.20.3.1/24"), "02:00:5b:1c:00:09")
        wider = replace(orders, network=replace(orders.network, nics=(*orders.network.nics, tier)))
        network.deliver(
            Inside(lab),
            wider.tier_added(tier),
            lambda step: lab.plug_guest(step.device, tier.mac, bridge="br-eth5"),
        )
        assert "10.20.3.1/24" in lab.router.sh("ip -o -4 address show dev eth5").stdout
        network.deliver(Inside(lab), wider.tier_removed(tier))
        assert "10.20.3.1/24" not in lab.router.sh("ip -o -4 address show dev eth5").stdout
