"""Proofs of the rules: what fails is tried again, at a pace, until the deadline."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest

from harness.network.flows import LOOPBACK, Flow
from harness.traffic import proofs

VM = SimpleNamespace(tenants={})
NETWORK = SimpleNamespace(machines=())
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
