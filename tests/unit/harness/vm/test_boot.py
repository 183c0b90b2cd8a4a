"""How long the steps of a boot may take."""

from types import SimpleNamespace

import pytest

from bundle import catalogue, layout
from bundle.errors import InfrastructureError
from harness.vm import boot


@pytest.mark.parametrize(("agent", "allowed"), [(0.5, 120.0), (6.0, 120.0), (40.0, 800.0)])
def test_what_a_step_may_take_follows_how_fast_the_host_is(agent, allowed):
    assert boot.Deadlines().after(agent) == allowed


class _Guest:
    def __init__(self):
        self.waited = []

    def connect(self, deadline):
        self.waited.append(deadline)

    def wait_for_file(self, path, deadline):
        self.waited.append(deadline)

    def put(self, data, path, mode):
        pass


def test_the_steps_of_a_boot_get_what_was_measured_in_it(tmp_path, monkeypatch):
    clock = iter([100.0, 150.0])
    monkeypatch.setattr(boot.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(boot, "first_answer", lambda *_: None)
    for name in layout.PAYLOAD:
        (tmp_path / name).write_bytes(b"x")
    machine = SimpleNamespace(folder=tmp_path, name="vm", guest_agent=lambda *_, **__: 1)
    guest = _Guest()
    boot.boot(
        machine, guest, cmdline="type=router", release=catalogue.load().release("4.22"), bundle=tmp_path,
        public_key="key", progress=lambda _: None, deadlines=boot.Deadlines(least=1, times=3),
    )  # fmt: skip
    assert guest.waited == [150.0, 150.0]


class _Machine:
    """A machine whose guest agent answers after so many resets."""

    name = "vm"

    def __init__(self, folder, resets):
        self.folder = folder
        self.left = resets
        self.resets = 0

    def alive(self):
        return True

    def stretch(self):
        return lambda: 1.0

    def guest_agent(self, command, **arguments):
        return None if self.resets < self.left else arguments.get("id", {})

    def silence(self):
        return "QEMU guest agent is not connected"

    def reset(self):
        self.resets += 1


def test_a_boot_that_stands_still_is_told_and_reset_once(tmp_path):
    (tmp_path / "console.log").write_text("Run /init as init process\n")
    machine, told = _Machine(tmp_path, resets=1), []
    boot.first_answer(machine, boot.Deadlines(guest_agent=5, stalled=0.1), told.append)
    assert machine.resets == 1
    assert "not connected" in told[0]
    assert "Run /init" in told[0]


def test_a_boot_that_stands_still_twice_fails_and_says_what_libvirt_said(tmp_path):
    machine = _Machine(tmp_path, resets=2)
    with pytest.raises(InfrastructureError, match="after a reset: QEMU guest agent is not connected"):
        boot.first_answer(machine, boot.Deadlines(guest_agent=0.3, stalled=0.1), lambda _: None)
    assert machine.resets == 1


def test_a_boot_that_answers_is_not_reset(tmp_path):
    machine, told = _Machine(tmp_path, resets=0), []
    boot.first_answer(machine, boot.Deadlines(), told.append)
    assert (machine.resets, told) == (0, [])
