"""Network backends: a new one is found, wired, laid, plugged in and removed without anybody else knowing it."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bundle.errors import UsageError
from harness import network
from harness.machine.domain import Nic, NicBackend
from harness.vm import backends
from harness.vm.around import around
from harness.vm.cables import Cable, UserNet
from harness.vm.wiring import wire

HARNESS = Path(backends.__file__).parents[1]


@dataclass(frozen=True)
class Rope:
    """An end of a rope, which a made-up program holds."""

    owner: str
    device: str
    end: str

    @property
    def other_end(self) -> Rope:
        return replace(self, end="tenants")

    def arguments(self, netdev_id: str) -> list[str]:
        return ["-netdev", f"rope,id={netdev_id},name={self.owner}/{self.device}/{self.end}"]

    def far_side(self, others: Sequence[Cable], hub_id: int) -> NicBackend:
        return self.other_end


class Ropes:
    """A backend that keeps what it is told."""

    name = "ropes"

    def __init__(self) -> None:
        self.laid: list[Cable] = []
        self.removed: list[str] = []

    def refusal(self) -> str:
        return ""

    def cable(self, owner: str, device: str, take_port: Callable[[], int], end: str = "vm") -> Rope:
        return Rope(owner, device, end)

    def lay(self, cables: Iterable[Cable]) -> None:
        self.laid += cables

    def plug(self, machine: object, nics: Iterable[Nic]) -> None:
        pass

    def remove(self, owners: str) -> None:
        self.removed.append(owners)

    def describe(self, owner: str) -> str | None:
        return None


@pytest.fixture
def ropes(monkeypatch: pytest.MonkeyPatch) -> Ropes:
    made = Ropes()
    monkeypatch.setitem(backends.BACKENDS, made.name, made)
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    return made


def test_a_backend_is_found_by_its_word(ropes: Ropes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.find("ropes") is ropes
    monkeypatch.setenv(backends.VARIABLE, "ropes")
    assert backends.find() is ropes
    with pytest.raises(UsageError, match=r"'strings' \(expected loopback or taps or ropes"):
        backends.find("strings")


def test_a_router_and_its_tenants_are_wired_with_it(ropes: Ropes) -> None:
    plan = around(network.load("router"))
    wiring = wire(plan, ropes, "sysvm-a1-r")
    wiring.ports.release()
    near = [nic.backend for nic in wiring.nics]
    assert near == [Rope("sysvm-a1-r", "eth0", "vm"), near[1], Rope("sysvm-a1-r", "eth2", "vm")]
    assert isinstance(near[1], UserNet)
    far = {nic.backend for nic in wiring.tenants["tenants"] if not isinstance(nic.backend, UserNet)}
    assert {end.device for end in far if isinstance(end, Rope)} >= {"eth0", "eth2"}
    assert set(wiring.cables) == {near[0], near[2]}


def test_what_dead_runs_left_is_removed_from_every_backend(ropes: Ropes) -> None:
    backends.remove_all(f"sysvm-{os.getpid():x}-*")
    assert ropes.removed == [f"sysvm-{os.getpid():x}-*"]


OWN_FILES = ("taps.py", "loopback.py")
SORTS = {
    node.name
    for name in OWN_FILES
    for node in ast.parse((HARNESS / "vm" / name).read_text()).body
    if isinstance(node, ast.ClassDef)
}


def asks(tree: ast.AST) -> list[int]:
    """Return the lines that ask of what sort of a backend's own something is."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance")
        or isinstance(node, ast.MatchClass)
        if SORTS & {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node)}
    ]


def test_nobody_but_the_backends_asks_what_sort_a_cable_is() -> None:
    """Outside of a backend's own file no ``isinstance`` and no ``match`` names a class of it."""
    trees = {
        path: ast.parse(path.read_text()) for path in HARNESS.rglob("*.py") if path.name not in OWN_FILES
    }
    assert {f"{path.name}:{line}" for path, tree in trees.items() for line in asks(tree)} == set()


def test_who_asks_is_found() -> None:
    line = "isinstance(end, taps.BridgeCable)\nmatch end:\n    case UdpCable(): pass\nisinstance(end, int)"
    assert asks(ast.parse(line)) == [1, 3]
