"""A machine's own word on whether the host has stopped it."""

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
