"""Pairs on a full host: they take turns. The machines are fakes: real ones are in tests/e2e/test_topologies.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

from bundle.errors import InfrastructureError
from harness import network
from harness.guest.guest import SshGuest
from harness.host import slots
from harness.host.runtime import RuntimeFolder
from harness.lab import pair
from harness.machine import accel
from harness.machine.machine import Machine
from harness.vm import engine

Restore: TypeAlias = Callable[[str], pair.RouterPair]
# A pair takes five virtual CPUs: three with its first router and the tenants, two with its second one.
ROOM = "4096,6"


class Host:
    """Launches fakes. The first router of a pair waits a moment for that of another one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failing = ""
        self.running: set[str] = set()
        self.routers: list[str] = []
        self.lock = threading.Lock()
        self.first_of_two = threading.Barrier(2)

    def launch(self, name: str) -> Any:
        if name == self.failing:
            raise InfrastructureError(f"{name} does not start")
        with self.lock:
            self.running.add(name)
            self.routers += [name] if not name.endswith("tenants") else []
        if name.endswith("-first"):
            with suppress(threading.BrokenBarrierError):
                self.first_of_two.wait(0.3)
        return SimpleNamespace(folder=self.folder, name=name, halted=str, locked_up=str)

    def destroy(self, machine: Any) -> None:
        with self.lock:
            self.running.remove(machine.name)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SYSVM_SLOTS", ROOM)
    monkeypatch.setattr(engine.Launcher, "launch", lambda _self, name, *_: made.launch(name))
    monkeypatch.setattr(engine.tenants, "connect", lambda _spec, _socket: {})
    monkeypatch.setattr(SshGuest, "connect", lambda _self: None)
    monkeypatch.setattr(Machine, "destroy", made.destroy)
    return made


@pytest.fixture
def restore(host: Host) -> Restore:
    """Return what restores a pair."""
    for folder in (host.folder / "first", host.folder / "second"):
        folder.mkdir()
        (folder / "tenant-tenants.initrd").touch()
        (folder / "system.overlay").touch()
    unused: Any = None
    image: Any = SimpleNamespace(
        direct_boot=True, kernel=Path("vmlinuz"), initrd=Path("initrd.img"), root_device="/dev/vda1"
    )
    lab: Any = SimpleNamespace(
        old=SimpleNamespace(name="4.22"),
        engine=engine.Engine(unused, RuntimeFolder("a1b2c3", host.folder / "run"), accel.TCG),
        image=image,
    )
    snapshot: Any = SimpleNamespace(folder=host.folder, ssh_key=Path("key"), facts={"primary": 0})
    maker = pair._PairMaker(lab, network.load("redundant"))
    return lambda name: maker.restore(name, snapshot)


def free() -> int:
    """Return how many virtual CPUs nobody holds."""
    held = []
    with suppress(slots.NoRoom):
        while True:
            held.append(slots.reserve(slots.Need(0, 1), "one more", deadline=0))
    for reservation in held:
        reservation.release()
    return len(held)


def test_two_pairs_at_once_take_turns_where_one_has_room(host: Host, restore: Restore) -> None:
    threads = [
        threading.Thread(target=lambda name=name: restore(name).stop(), daemon=True) for name in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert host.routers in (
        ["a-first", "a-second", "b-first", "b-second"],
        ["b-first", "b-second", "a-first", "a-second"],
    )


def test_a_pair_holds_its_room_until_it_stops(host: Host, restore: Restore) -> None:
    made = restore("a")
    assert free() == 1
    made.stop()
    assert free() == 6
    assert host.running == set()


def test_a_pair_whose_second_router_does_not_start_leaves_nothing(host: Host, restore: Restore) -> None:
    host.failing = "a-second"
    with pytest.raises(InfrastructureError, match="a-second does not start"):
        restore("a")
    assert free() == 6
    assert host.running == set()


def slow_pair(monkeypatch: pytest.MonkeyPatch, stretch: float) -> pair.RouterPair:
    """Return a pair that settles after 0.4 s, on a host that makes all take ``stretch`` times as long."""
    began = time.monotonic()

    def role(guest: str) -> str:
        return "PRIMARY" if guest == "first" and time.monotonic() - began > 0.4 else "BACKUP"

    def router(name: str) -> Any:
        machine = SimpleNamespace(alive=lambda: True, stretch=lambda: lambda: stretch)
        return SimpleNamespace(name=name, guest=name, machine=machine)

    monkeypatch.setattr(pair, "role", role)
    nothing: Any = None
    return pair.RouterPair(nothing, (router("first"), router("second")), nothing, nothing)


def test_a_pair_has_longer_to_settle_where_its_routers_wait_for_a_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = slow_pair(monkeypatch, 20.0)
    made.settle(0.1)
    assert made.primary().name == "first"


def test_a_pair_that_does_not_settle_is_told_with_its_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InfrastructureError, match=r"within 0\.2 s: .*'first': 'BACKUP'"):
        slow_pair(monkeypatch, 2.0).settle(0.1)
