"""A machine's own word on whether the host has stopped it, and on how long it waits for the host."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import libvirt
import pytest

from harness.machine.machine import Machine


@pytest.mark.parametrize(
    ("state", "reason", "halted"),
    [
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR, True),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, False),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED, False),
    ],
)
def test_only_what_qemu_has_stopped_by_itself_is_halted(state: int, reason: int, halted: bool) -> None:
    machine = Machine("m", SimpleNamespace(state=lambda: (state, reason)), Path())
    assert bool(machine.halted()) == halted


def test_a_machine_that_is_gone_or_a_daemon_that_is_has_not_halted_it() -> None:
    def state() -> None:
        raise libvirt.libvirtError("gone")

    assert Machine("m", SimpleNamespace(state=state), Path()).halted() == ""


class Told:
    """A domain whose virtual CPU ran and waited as long as it is told, in seconds; None: libvirt does not say."""

    def __init__(self, *turns: tuple[float, float] | None) -> None:
        self.turns = list(turns)

    def connect(self) -> Told:
        return self

    def domainListGetStats(self, _domains: object, _what: int) -> list[tuple[object, dict[str, int]]]:
        turn = self.turns.pop(0)
        if turn is None:
            raise libvirt.libvirtError("gone")
        ran, waited = (int(seconds * 1e9) for seconds in turn)
        return [(self, {"vcpu.current": 1, "vcpu.0.time": ran, "vcpu.0.delay": waited})]


@pytest.mark.parametrize(
    ("turns", "stretch"),
    [
        ([(10, 5), (14, 7)], 1.5),
        ([(10, 5), (14, 5)], 1.0),
        ([(10, 5), (10, 9)], 1.0),
        ([None, (14, 7)], 1.0),
        ([(10, 5), None], 1.0),
    ],
)
def test_work_takes_longer_by_what_its_cpus_waited_for_a_core_since_then(
    turns: list[tuple[float, float] | None], stretch: float
) -> None:
    assert Machine("m", Told(*turns), Path()).stretch()() == stretch
