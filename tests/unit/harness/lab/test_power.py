"""Reboots of a VM under test."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import libvirt
import pytest

from harness.guest.connection import ConnectionLost
from harness.host import wait
from harness.lab.faults import power

DOCUMENT = """
<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>vm</name>
  <qemu:commandline><qemu:arg value='-incoming'/><qemu:arg value='defer'/></qemu:commandline>
</domain>
"""


class Domain:
    """A domain that is forgotten at its end, some looks after its guest was told to shut down."""

    def __init__(self, told: list[str], looks: float) -> None:
        self.told, self.looks = told, looks

    def XMLDesc(self, _flags: int) -> str:
        return DOCUMENT

    def connect(self) -> str:
        return "libvirt"

    def isActive(self) -> int:
        self.looks -= 1
        if self.looks <= 0:
            raise libvirt.libvirtError("no domain with matching name 'vm'")
        return 1


def machine(monkeypatch: pytest.MonkeyPatch, looks: float) -> tuple[SimpleNamespace, list[str]]:
    told: list[str] = []

    def run(command: str, *, check: bool) -> None:
        told.append(command)
        raise ConnectionLost("the guest is gone")

    def start(_vm: object, document: power.ET.Element, connection: str, at_login: Callable[[], None]) -> None:
        at_login()
        told.append(f"start by {connection}, {len(list(document.iter(f'{power._QEMU}arg')))} arguments")

    monkeypatch.setattr(power, "_start", start)
    monkeypatch.setattr(power, "_DOWN_DEADLINE", 1.0)
    handle = Domain(told, looks)
    ended = SimpleNamespace(handle=handle, destroy=lambda: told.append("destroy"))
    return SimpleNamespace(name="vm", machine=ended, guest=SimpleNamespace(run=run)), told


def test_a_reboot_shuts_down_in_an_orderly_way_and_starts_the_same_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vm, told = machine(monkeypatch, looks=3)
    power.reboot(vm, lambda: told.append("somebody logs in"))
    assert told == ["systemctl poweroff", "destroy", "somebody logs in", "start by libvirt, 0 arguments"]


def test_a_vm_that_does_not_shut_down_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    vm, told = machine(monkeypatch, looks=float("inf"))
    with pytest.raises(wait.DeadlineExceeded, match="vm: the end of its shutdown"):
        power.reboot(vm)
    assert told == ["systemctl poweroff"]
