"""The network of an internal load balancer: only balancers, tried from its machines, which have their addresses."""

from __future__ import annotations

import tomllib
from importlib.resources import files

import pytest

from bundle.errors import UsageError
from harness import network
from harness.network.flows import flows
from harness.vm.around import around


def shipped(**tables: object) -> network.Network:
    document = tomllib.loads((files("harness.network") / "shipped" / "ilbvm.toml").read_text("utf-8"))
    return network.parse({**document, **tables})


def test_it_is_sent_its_balancers_and_nothing_for_its_machines() -> None:
    orders = network.Orders(shipped(), "4.22")
    (bag,) = network.bags_of(orders.start())
    assert bag.stem == "load_balancer"
    assert network.bags_of(orders.reapply()) == (bag,)
    (rule,) = bag.content["rules"]
    assert rule["stat_rules"] == ["10.1.1.100:8081:0/0:,"]
    assert rule["add_rules"] == ["10.1.1.100:80:", "10.1.1.100:8080:"]


def test_every_machine_tries_every_balancer() -> None:
    tried = {(flow.source, flow.port): flow for flow in flows(shipped())}
    assert set(tried) == {(name, port) for name in ("web1", "web2", "client") for port in (80, 8080)}
    assert all(flow.allowed for flow in tried.values())
    assert tried["client", 80].reaches == ("web1", "web2")
    assert tried["client", 8080].reaches == ("web1",)


def test_its_machines_have_their_addresses_from_the_start() -> None:
    plan = around(shipped())
    assert [nic.role for nic in plan.nics] == ["guest", "control"]
    hosts = [host for spec in plan.tenants for host in spec.hosts]
    assert {host.name: host.address for host in hosts}["client"] == "10.1.1.50/24"
    assert all(host.fixed for host in hosts)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"public_address": [{"address": "192.0.2.10"}]}, r"has no \[\[public_address\]\]"),
        (
            {"load_balancer": [{"public": "10.1.1.9", "port": 80, "members": ["10.1.1.51:80"]}]},
            r"10\.1\.1\.9 of \[\[load_balancer\]\]",
        ),
    ],
)
def test_what_no_server_would_send_is_refused(tables: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        shipped(**tables)
