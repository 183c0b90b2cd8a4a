"""How long the steps of a boot may take."""

from types import SimpleNamespace

import pytest

from bundle import catalogue, layout
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
    monkeypatch.setattr(boot, "wait_for_guest_agent", lambda *_: None)
    for name in layout.PAYLOAD:
        (tmp_path / name).write_bytes(b"x")
    machine = SimpleNamespace(folder=tmp_path, name="vm", guest_agent=lambda *_, **__: 1)
    guest = _Guest()
    boot.boot(
        machine, guest, cmdline="type=router", release=catalogue.load().release("4.22"), bundle=tmp_path,
        public_key="key", progress=lambda _: None, deadlines=boot.Deadlines(least=1, times=3),
    )  # fmt: skip
    assert guest.waited == [150.0, 150.0]
