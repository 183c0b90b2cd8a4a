"""Proofs of the rules: what fails is tried again, at a pace, until the deadline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest

from bundle.errors import InfrastructureError
from harness import network
from harness.network.flows import LOOPBACK, Flow
from harness.traffic import plan, proofs

# How many times longer all takes on the host of the VM.
BUSY = {"times": 1.0}
VM = SimpleNamespace(
    tenants={}, machine=SimpleNamespace(stretch=lambda: lambda: BUSY["times"]), require_run=lambda: None
)  # fmt: skip
NETWORK = SimpleNamespace(machines=(), vpn=None, bgp_peers=(), site_to_site=())
ONE, TWO = (Flow(f"rule {port}", LOOPBACK, IPv4Address("192.0.2.10"), port, 80, True) for port in (80, 81))


class Attempts:
    """Stands in for the attempts on a VM: each flow fails at once as often as it is told, and all are recorded."""

    def __init__(self, failures: dict[Flow, float]) -> None:
        self.failures, self.made = failures, []

    def __call__(self, _vm: object, flows: Sequence[Flow]) -> list[str]:
        self.made.append(tuple(flows))
        tries = [sum(flow in made for made in self.made) for flow in flows]
        return [
            "refused" if tried <= self.failures[flow] else ""
            for flow, tried in zip(flows, tries, strict=True)
        ]


def prove(monkeypatch: pytest.MonkeyPatch, attempts: Attempts, deadline: float) -> list[proofs.Proof]:
    monkeypatch.setattr(proofs, "flows", lambda _network: [ONE, TWO])
    monkeypatch.setattr(proofs, "attempt", attempts)
    return proofs.prove(VM, NETWORK, deadline=deadline)


def test_what_fails_at_once_is_tried_at_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts({ONE: float("inf"), TWO: 0})
    assert prove(monkeypatch, attempts, 0.35) == [
        proofs.Proof(ONE.name, "refused"),
        proofs.Proof(TWO.name, ""),
    ]
    assert 2 <= len(attempts.made) <= 8


def test_only_what_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts({ONE: 0, TWO: 2})
    assert [proof.reason for proof in prove(monkeypatch, attempts, 30)] == ["", ""]
    assert attempts.made == [(ONE, TWO), (TWO,), (TWO,)]


def test_on_a_busy_host_the_deadline_is_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUSY, "times", 1000.0)
    assert [proof.reason for proof in prove(monkeypatch, Attempts({ONE: 3, TWO: 0}), 0.01)] == ["", ""]


class Anybody:
    """A host that is asked anything and keeps it."""

    def __init__(self, answer: str = "") -> None:
        self.answer, self.asked = answer, []

    def run(self, script: str, **_: object) -> SimpleNamespace:
        self.asked.append(script)
        return SimpleNamespace(stdout=self.answer)

    def resolve(self, name: str, server: str) -> str:
        self.asked.append(f"{name} {server}")
        return self.answer


def requests(name: str, answers: dict[str, str]) -> dict[str, str]:
    """Return what is wrong with each request of a shipped network that its flows are not, by its name."""
    declared = network.load(name)
    hosts = {
        row.name: Anybody(answers.get(row.name, "")) for row in (*declared.machines, *declared.outsiders)
    }
    vm = SimpleNamespace(tenants=hosts)
    wanted = ("advertisements", "BGP", "password", "metadata", "DNS knows web1 in", "the tunnel")
    return {
        name: request()
        for name, request in (*proofs._requests(vm, declared), *proofs._of_far_ends(vm, declared))
        if name.startswith(wanted)
    }


def test_a_machine_must_have_the_address_that_is_advertised() -> None:
    name = "advertisements give 2001:db8:1::26ff:fec3:2101 to vm1"
    said = "    inet6 2001:db8:1::26ff:fec3:2101/64 scope global dynamic flags 100"
    assert requests("router-ipv6", {"vm1": said}) == {name: ""}
    assert "it has" in requests("router-ipv6", {"vm1": "inet6 2001:db8:1::9/64"})[name]


def test_a_neighbour_must_know_the_way_to_each_tier() -> None:
    said = "10.30.1.0/24 via 198.51.100.10 dev eth0 proto bgp metric 20\n"
    found = requests("vpc-routed", {"internet": said})
    assert found["BGP tells internet of 10.30.1.0/24"] == ""
    assert "10.30.1.0/24" in found["BGP tells internet of 10.30.2.0/24"]


def test_names_are_asked_for_in_the_tunnel_at_the_servers_end() -> None:
    name = "DNS knows web1 in the tunnel of caller"
    assert requests("vpn", {"caller": "Address: 10.40.1.50"})[name] == ""
    assert "names no 10.40.1.50" in requests("vpn", {"caller": ";; timed out"})[name]


def test_a_tunnel_stands_when_both_ends_have_keys_for_it() -> None:
    name = "the tunnel of internet stands"
    keys = "site[1]: ESTABLISHED 3 seconds ago\nsite{1}:  INSTALLED, TUNNEL, reqid 1"
    assert requests("vpn", {"internet": keys})[name] == ""
    assert "CONNECTING" in requests("vpn", {"internet": "site[1]: CONNECTING"})[name]


def test_a_further_subnet_has_its_metadata_and_passwords() -> None:
    declared = network.load("shared-two-ranges")
    vm = SimpleNamespace(tenants={row.name: Anybody() for row in declared.machines})
    names = [name for name, _ in proofs._requests(vm, declared)]
    assert [name for name in names if name.startswith(("metadata", "password"))] == [
        "metadata of vm2",
        "password server for vm2",
    ]


def test_a_probe_of_what_is_untranslated_asks_whom_it_is_seen_as() -> None:
    declared = network.load("router-ipv6")
    hosts = {row.name: Anybody() for row in (*declared.machines, *declared.outsiders)}
    vm = SimpleNamespace(tenants=hosts, endpoints=defaultdict(lambda: 1))
    commands = {
        probe.name: probe.command
        for probe in plan.probes(vm, declared, plan.Pace(4, 5))
        if "IPv6" in probe.name
    }
    own, far = "2001:db8:1::26ff:fec3:2101", "2001:db8:ff::99"
    assert set(commands) == {f"IPv6 in [{own}]:80 from internet", f"IPv6 out [{far}]:80 from vm1"}
    assert commands[f"IPv6 in [{own}]:80 from internet"].endswith(f"grep -qxF {far}")
    assert commands[f"IPv6 out [{far}]:80 from vm1"].endswith(f"grep -qxF {own}")


def test_what_fails_because_a_machine_has_ended_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise InfrastructureError("the tenants' QEMU has ended")

    monkeypatch.setattr(VM, "require_run", gone)
    assert [proof.reason for proof in prove(monkeypatch, Attempts({ONE: 0, TWO: 0}), 1)] == ["", ""]
    with pytest.raises(InfrastructureError, match="the tenants' QEMU has ended"):
        prove(monkeypatch, Attempts({ONE: float("inf"), TWO: 0}), 0.01)
