"""Later changes of a declared network: what is sent for them, and which connections tell before and after apart."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from harness import network
from harness.lab.aftermath import changes
from harness.network.flows import Flow
from harness.network.transport import bags_of

SHIPPED = Path(network.__file__).parent / "shipped"
RELEASE, MOMENT = "4.22", 1_769_817_600_000


@pytest.fixture(params=["router", "vpc"])
def declared(request: pytest.FixtureRequest) -> network.Network:
    return network.load(request.param)


def anybody(flow: Flow) -> bool:
    return bool(flow.source)


def sent(change: changes.Change) -> list[dict[str, object]]:
    return [bag.content for bag in bags_of(change.steps(RELEASE, MOMENT))]


def test_an_added_forward_is_let_in_and_answered(declared: network.Network) -> None:
    change = changes.forward_added(declared, anybody)
    assert change is not None
    tried = [flow for flow in change.flows(anybody) if flow.port in changes.ADDED]
    assert tried
    assert all(flow.allowed for flow in tried)
    assert [bag["type"] for bag in sent(change)] == [
        "forwardrules",
        *([] if declared.is_vpc else ["firewallrules"]),
    ]


def test_a_changed_forward_is_revoked_first_and_answered_by_somebody_else(declared: network.Network) -> None:
    added = changes.forward_added(declared, anybody)
    assert added is not None
    change = changes.forward_changed(added.after, anybody)
    assert change is not None
    old, new = (
        next(row for row in net.forwards if row.public_ports.first == changes.ADDED[0])
        for net in (change.before, change.after)
    )
    assert (old.private, old.private_ports) != (new.private, new.private_ports)
    first, second = sent(change)
    revoked = [row["revoke"] for row in first["rules"] if row["source_port_range"] == "20001:20001"]
    again = [row["revoke"] for row in second["rules"] if row["source_port_range"] == "20001:20001"]
    assert (revoked, again) == ([True], [False])


def test_a_revoked_forward_must_be_refused(declared: network.Network) -> None:
    added = changes.forward_added(declared, anybody)
    assert added is not None
    change = changes.forward_revoked(added.after, anybody)
    assert change is not None
    assert {(flow.port, flow.allowed) for flow in change.flows(anybody)} == {(changes.ADDED[1], False)}


def test_a_revoked_rule_shuts_something_and_opens_nothing(declared: network.Network) -> None:
    change = changes.rule_revoked(declared, anybody)
    assert change is not None
    tried = change.flows(anybody)
    assert tried
    assert not any(flow.allowed for flow in tried)
    assert [bag["type"] for bag in sent(change)] == ["networkacl" if declared.is_vpc else "firewallrules"]


def test_a_changed_balancer_is_answered_by_another_machine() -> None:
    declared = network.load("router")
    change = changes.balancer_changed(declared, anybody)
    assert change is not None
    assert {flow.reaches for flow in change.flows(anybody)} == {("vm2",)}
    assert [bag["type"] for bag in sent(change)] == ["loadbalancer"]


def test_what_nobody_can_try_is_no_change(declared: network.Network) -> None:
    made = [
        changes.forward_added(declared, lambda _: False),
        changes.balancer_changed(declared, lambda _: False),
        changes.rule_revoked(declared, lambda _: False),
    ]
    assert made == [None, None, None]


def test_undoing_everything_is_the_declaration_again(declared: network.Network) -> None:
    found = [changes.forward_added(declared, anybody), changes.rule_revoked(declared, anybody)]
    now, made = changes.together(declared, [change for change in found if change])
    assert len(made) == 2
    assert made[1].before == made[0].after
    back = changes.undone(now, declared)
    assert back.after == declared
    kinds = {bag["type"] for bag in sent(back)}
    assert kinds == ({"forwardrules", "networkacl"} if declared.is_vpc else {"forwardrules", "firewallrules"})
    opened = {flow.port: flow.allowed for flow in back.flows(anybody)}
    assert opened.get(changes.ADDED[0]) is not True
    assert True in opened.values()


def test_a_new_machine_has_an_address_that_nobody_has(declared: network.Network) -> None:
    machine = changes.new_machine(declared)
    taken = {row.address for row in declared.machines} | {nic.address.ip for nic in declared.nics}
    assert machine.address not in taken
    assert declared.inside_of(machine.address) == declared.inside_of(declared.machines[0].address)


def test_a_machine_gets_no_address_outside_the_network_of_its_nic() -> None:
    machine = changes.new_machine(network.load("router"))
    assert machine.address == IPv4Address("10.1.1.253")


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.toml")))
def test_every_shipped_network_has_changes_that_can_be_sent_and_undone(name: str) -> None:
    declared = network.load(name)
    kinds = (changes.forward_added, changes.balancer_changed, changes.rule_revoked)
    now, made = changes.together(declared, [change for kind in kinds if (change := kind(declared, anybody))])
    assert declared.is_shared or made, "nothing can be changed here"
    assert all(sent(change) for change in made)
    back = changes.undone(now, declared)
    assert back.after == declared
    assert bool(sent(back)) == bool(made)
    if declared.serves_machines:
        assert changes.new_machine(declared).address not in {row.address for row in declared.machines}
