"""Single changes of a running router, as the server sends them: each holds at once, and nothing else changes."""

from __future__ import annotations

import time
from dataclasses import replace

from bundle import catalogue
from harness import network
from harness.lab.golden_maker import require
from harness.network.flows import flows
from harness.traffic.proofs import prove
from harness.traffic.reachability import attempt


def orders_of(declared):
    return network.Orders(declared, catalogue.load().default_from, int(time.time() * 1000))


def require_gone(vm, before, after):
    """Make sure that what only the former network let in is answered no longer."""
    left = {(flow.source, flow.target, flow.port) for flow in flows(after)}
    gone = [
        replace(flow, allowed=False)
        for flow in flows(before)
        if flow.allowed
        and flow.source in ("", *vm.tenants)
        and (flow.source, flow.target, flow.port) not in left
    ]
    problems = dict(zip((flow.name for flow in gone), attempt(vm, gone), strict=True))
    assert not any(problems.values()), problems


def test_a_router_takes_single_changes(lab, nothing_left):
    """Rules go one file each, and come back; after each change every flow is what the declaration says."""
    declared = lab.network
    orders = orders_of(declared)
    ssh, *forwards = declared.forwards
    narrow, kept = declared.ingress[-1], declared.ingress[:-1]
    changes = [
        (orders.forwards_changed(ssh.public, [ssh]), replace(declared, forwards=tuple(forwards))),
        (orders.ingress_changed(narrow.public, [narrow]), replace(declared, ingress=kept)),
        (orders.egress_changed(declared.egress), replace(declared, egress=())),
        (orders.balancers_changed(declared.load_balancers), replace(declared, load_balancers=())),
    ]
    with lab.system_vm("changes") as vm:
        for steps, left in changes:
            network.deliver(vm.guest, steps)
            require(prove(vm, left))
            require_gone(vm, declared, left)
            network.deliver(vm.guest, orders.reapply())
            require(prove(vm, declared))


def test_a_machine_gets_a_password_and_goes(lab, nothing_left):
    """A new password and a removed machine: the router keeps serving the others."""
    declared = lab.network
    orders = orders_of(declared)
    first, *others = declared.machines
    with lab.system_vm("machines") as vm:
        network.deliver(vm.guest, orders.deployed(first, "aB3 $x"))
        router = declared.gateway_of(first.address)
        told = (
            vm.tenants[first.name]
            .run(f"wget -q -O - --header 'DomU_Request: send_my_password' http://{router}:8080/")
            .stdout
        )
        assert told.strip() == "aB3 $x"
        network.deliver(vm.guest, orders.expunged(first))
        assert first.mac not in vm.guest.run("cat /etc/dhcphosts.txt").stdout
        require(prove(vm, replace(declared, machines=tuple(others), forwards=(), load_balancers=())))
