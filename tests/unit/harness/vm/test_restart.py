"""Machines that are started again from their disk, and every way in which that fails: by the guest, or by its host."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from bundle.errors import InfrastructureError
from harness.guest.connection import ConnectionLost, GuestError, GuestStopped
from harness.guest.guest import UnitFailed
from harness.lab.faults import power
from harness.machine import machine as machines
from harness.machine.machine import Machine
from harness.vm import restart
from harness.vm.restart import RebootFailed

DOCUMENT = """
<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>vm</name>
  <qemu:commandline>
    <qemu:arg value='-incoming'/><qemu:arg value='defer'/><qemu:arg value='-global'/>
  </qemu:commandline>
</domain>
"""
POWER_DOWN = b"[    9.1] reboot: Power down\n"


@dataclass
class Host:
    """A libvirt with one domain.

    Attributes:
        folder: with the console's log.
        looks: at the domain, until it is gone after its guest was told to shut down.
        refusal: of libvirt, to start it again; the first ``refusals`` times.
        last_words: of the console of a second machine that ends at once; None for one that does not.
        stopped: QEMU has stopped the second machine, for its disk is full.
    """

    folder: Path
    looks: float = 3
    refusal: str = ""
    refusals: float = float("inf")
    last_words: bytes | None = None
    stopped: bool = False
    told: list[str] = field(default_factory=list)
    starts: list[tuple[str, int]] = field(default_factory=list)

    def connect(self) -> Host:
        return self

    def createXML(self, text: str, flags: int) -> Host:
        if self.refusal and self.refusals > 0:
            self.refusals -= 1
            raise libvirt.libvirtError(self.refusal)
        self.starts.append((text, flags))
        self.looks = float("inf")
        return self

    def XMLDesc(self, _flags: int) -> str:
        return DOCUMENT

    def isActive(self) -> int:
        if self.starts and self.last_words is not None:
            write(self.folder, self.last_words)
            self.looks, self.last_words = 0, b""
        self.looks -= 1
        if self.looks <= 0:
            raise libvirt.libvirtError("no domain with matching name 'vm'")
        return 1

    def state(self) -> tuple[int, int]:
        if self.stopped and self.starts:
            return libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR
        return libvirt.VIR_DOMAIN_RUNNING, 0

    def destroy(self) -> None:
        self.told.append("destroy")

    def domainListGetStats(self, *_: object) -> None:
        raise libvirt.libvirtError("nobody measures that here")


def write(folder: Path, words: bytes) -> None:
    with (folder / "console.log").open("ab") as log:
        log.write(words)


@dataclass
class Guest:
    """A guest; ``fault`` is raised when it is waited for after the start, ``silent`` when it is told to shut down."""

    host: Host
    name: str = "r-1"
    fault: Exception | None = None
    silent: Exception | None = None
    stopped_by: Any = None

    def run(self, command: str, *, check: bool) -> None:
        self.host.told.append(command)
        raise self.silent or ConnectionLost("the guest is gone")

    def close(self) -> None:
        self.host.told.append("close")

    def connect(self, _deadline: float) -> None:
        self.host.told.append("connect")

    def wait_for_unit(self, unit: str, _deadline: float) -> None:
        self.host.told.append(unit)
        if self.fault:
            raise self.fault


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(restart, "DOWN_DEADLINE", 0.5)
    monkeypatch.setattr(machines, "_LAST_WORDS", 0.2)

    def answer(_domain: object, request: str, *_: object) -> str:
        asked = json.loads(request)
        return json.dumps({"return": asked.get("arguments", {}).get("id", {})})

    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", answer)
    write(tmp_path, b"the first boot\n" + POWER_DOWN)
    return Host(tmp_path)


def machine(host: Host) -> Machine:
    return Machine("vm", host, host.folder)


def test_a_reboot_shuts_down_in_an_orderly_way_and_starts_the_same_machine(host: Host) -> None:
    guest = Guest(host, stopped_by=lambda: "the first machine has stopped")
    vm = SimpleNamespace(machine=machine(host), guest=guest)
    power.reboot(vm, at_login=lambda: host.told.append("somebody is in"))  # type: ignore[arg-type]
    assert host.told == [
        "systemctl poweroff", "destroy", "close", "connect", "somebody is in", "cloud-postinit.service",
    ]  # fmt: skip
    [(document, flags)] = host.starts
    assert "-incoming" not in document
    assert "defer" not in document
    assert "-global" in document
    assert flags == libvirt.VIR_DOMAIN_START_AUTODESTROY
    assert vm.machine.printed_before == (host.folder / "console.log").stat().st_size
    assert guest.stopped_by() == ""


def test_a_machine_that_nobody_owns_is_owned_by_nobody_afterwards(host: Host) -> None:
    restart.reboot(machine(host), Guest(host), owned=False)  # type: ignore[arg-type]
    assert [flags for _, flags in host.starts] == [0]


def test_a_power_cut_asks_no_guest(host: Host) -> None:
    vm = SimpleNamespace(machine=machine(host), guest=Guest(host))
    power.boot_again(vm)  # type: ignore[arg-type]
    assert host.told == ["destroy", "close", "connect", "cloud-postinit.service"]


def test_a_guest_that_does_not_shut_down_is_not_cut_off(host: Host) -> None:
    host.looks = float("inf")
    with pytest.raises(RebootFailed, match=r"r-1: the end of its shutdown: not within 0\.5 s"):
        restart.reboot(machine(host), Guest(host))  # type: ignore[arg-type]
    assert host.told == ["systemctl poweroff"]
    assert host.starts == []


def test_a_guest_that_does_not_take_the_order_has_failed(host: Host) -> None:
    host.looks = float("inf")
    with pytest.raises(RebootFailed, match="no SSH login"):
        restart.reboot(machine(host), Guest(host, silent=GuestError("no SSH login")))  # type: ignore[arg-type]


def test_a_domain_that_libvirt_still_removes_is_awaited(host: Host) -> None:
    """What was seen: "domain 'sysvm-…' is already being removed", and a scenario that was not judged."""
    host.refusal, host.refusals = "operation failed: domain 'vm' is already being removed", 2
    restart.reboot(machine(host), Guest(host))  # type: ignore[arg-type]
    assert len(host.starts) == 1


def test_a_domain_that_libvirt_never_forgets_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "_FORGOTTEN_DEADLINE", 0.1)
    host.refusal = "operation failed: domain 'vm' is already being removed"
    with pytest.raises(InfrastructureError, match=r"r-1: libvirt to forget it: not within 0\.1 s") as caught:
        restart.reboot(machine(host), Guest(host))  # type: ignore[arg-type]
    assert not isinstance(caught.value, RebootFailed)


def test_a_machine_that_libvirt_does_not_start_again_is_no_failure_of_its_guest(host: Host) -> None:
    host.refusal = "cannot access storage file"
    with pytest.raises(
        InfrastructureError, match="r-1: libvirt cannot start it again: cannot access"
    ) as caught:
        restart.reboot(machine(host), Guest(host))  # type: ignore[arg-type]
    assert not isinstance(caught.value, RebootFailed)


@pytest.mark.parametrize("words", [b"", b"[    0.1] Linux version 6\n"])
def test_a_qemu_that_dies_in_the_boot_is_no_failure_of_its_guest(host: Host, words: bytes) -> None:
    """The last words of the boot before do not count."""
    host.last_words = words
    with pytest.raises(InfrastructureError, match="ended while it booted: QEMU has ended") as caught:
        restart.reboot(machine(host), Guest(host))  # type: ignore[arg-type]
    assert not isinstance(caught.value, RebootFailed)


def test_a_guest_that_switches_itself_off_in_the_boot_has_failed(host: Host) -> None:
    host.last_words = b"[    0.1] Linux version 6\n" + POWER_DOWN
    with pytest.raises(RebootFailed, match="ended while it booted"):
        restart.reboot(machine(host), Guest(host))  # type: ignore[arg-type]


def test_a_guest_whose_boot_fails_has_failed(host: Host) -> None:
    guest = Guest(host, fault=UnitFailed("r-1: unit cloud-postinit.service has failed"))
    with pytest.raises(RebootFailed, match=r"has failed; the console said last:\n    the first boot"):
        restart.reboot(machine(host), guest)  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", [GuestStopped("stopped"), UnitFailed("a unit has failed")])
def test_a_guest_that_its_host_has_stopped_has_not_failed(host: Host, fault: Exception) -> None:
    host.stopped = True
    with pytest.raises(InfrastructureError, match="QEMU has stopped the VM") as caught:
        restart.reboot(machine(host), Guest(host, fault=fault))  # type: ignore[arg-type]
    assert not isinstance(caught.value, RebootFailed)
