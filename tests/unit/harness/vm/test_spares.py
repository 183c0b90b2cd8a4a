"""Spares: made ahead, handed out once, never in anybody's way. The machines are fakes: real ones are in tests/e2e."""

from __future__ import annotations

import os

import pytest

from bundle.errors import InfrastructureError
from harness.host import locks, slots
from harness.vm.spares import Spares


class FakeGuest:
    def run(self, command):
        self.last = command


class FakeVm:
    def __init__(self, name):
        self.name, self.guest, self.did = name, FakeGuest(), []
        self.gone = False

    def pause(self):
        self.did.append("pause")

    def resume(self):
        if self.gone:
            raise InfrastructureError("it is gone")
        self.did.append("resume")

    def rename(self, name):
        self.name = name

    def stop(self):
        self.did.append("stop")


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path))
    return []


@pytest.fixture
def spares(made):
    def restore(name, *, patience=9.0):
        made.append((FakeVm(name), patience))
        return made[-1][0]

    spares = Spares(restore)
    yield spares
    spares.close()


def test_a_spare_stands_still_until_it_is_taken_and_bears_the_takers_name(spares, made):
    spares.expect()
    assert spares.wait()
    assert made[0][0].did == ["pause"]
    vm = spares.take("router")
    assert (vm, vm.name, vm.did) == (made[0][0], "router", ["pause", "resume"])


def test_making_a_spare_waits_for_no_room(spares, made):
    spares.expect()
    spares.wait()
    assert made[0][1] == 0


def test_a_spare_is_handed_out_once(spares, made):
    spares.expect()
    first, second = spares.take("a"), spares.take("b")
    assert first is not second
    assert [vm.name for vm, _ in made] == ["a", "b"]


def test_two_wishes_make_one_spare(spares, made):
    spares.expect()
    spares.expect()
    spares.wait()
    assert len(made) == 1


def test_a_spare_that_died_is_replaced_by_a_fresh_copy(spares, made):
    spares.expect()
    spares.wait()
    made[0][0].gone = True
    assert spares.take("a") is made[1][0]
    assert made[0][0].did == ["pause", "stop"]


def test_a_spare_that_nobody_took_ends_with_the_lab(spares, made):
    spares.expect()
    spares.close()
    assert made[0][0].did == ["pause", "stop"]


def test_no_spare_is_made_while_somebody_waits_for_room(spares, made):
    waiting = locks.shared(slots.state_root() / "slots" / "waiting")
    spares.expect()
    assert not spares.wait()
    assert not made
    os.close(waiting)


def test_what_keeps_a_spare_from_being_made_is_told_to_the_taker(made):
    def restore(name, *, patience=9.0):
        raise slots.NoRoom(f"{name}: no room")

    spares = Spares(restore)
    spares.expect()
    with pytest.raises(slots.NoRoom, match="a: no room"):
        spares.take("a")
    spares.close()
