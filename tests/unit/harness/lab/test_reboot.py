"""The reboot of a VM under test: a guest that does not come up has failed, a host that does not start it has not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bundle.errors import InfrastructureError
from harness.checks import Outcome
from harness.guest.connection import GuestLockedUp
from harness.host import wait
from harness.kvmagent.patch import Versions
from harness.lab.aftermath import reboot
from harness.lab.faults import power
from harness.machine.machine import Machine
from harness.vm.restart import RebootFailed
from harness.vm.system import SystemVm


def judged(
    monkeypatch: pytest.MonkeyPatch, reboots: Exception | None, told: Exception | None, vm: Any
) -> list[Outcome]:
    """Return the outcomes of a reboot that ends so, of a guest that then says of its versions what is told."""

    def ends(_: object, error: Exception | None) -> None:
        if error:
            raise error

    monkeypatch.setattr(power, "reboot", lambda vm: ends(vm, reboots))
    monkeypatch.setattr(reboot, "ask_versions", lambda guest: ends(guest, told))
    return reboot.reboot(vm, None, "4.22", SimpleNamespace())  # type: ignore[arg-type]


def vm(fault: str = "") -> Any:
    """Return a VM whose host runs it, or does not for a reason."""
    machine = SimpleNamespace(name="sysvm-1-r", host_fault=lambda: fault, console_log="console.log")
    made = SimpleNamespace(guest="guest", machines=lambda: [machine], console_log=Path("/dev/null"))
    made.require_run = lambda: SystemVm.require_run(made)  # type: ignore[arg-type]
    return made


def test_a_guest_that_does_not_come_up_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(monkeypatch, RebootFailed("no SSH login within 300 s"), None, vm())
    assert found == [Outcome("reboot.comes-up", "failed", "no SSH login within 300 s")]


def test_a_machine_that_its_host_does_not_start_says_nothing_of_the_guest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InfrastructureError, match="libvirt cannot start it again"):
        judged(monkeypatch, InfrastructureError("libvirt cannot start it again"), None, vm())


def test_a_guest_that_comes_up_and_cannot_say_what_it_runs_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = judged(
        monkeypatch, None, InfrastructureError("get_template_version.sh ended with status 1"), vm()
    )
    assert found == [Outcome("reboot.comes-up", "failed", "get_template_version.sh ended with status 1")]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InfrastructureError("no answer within 300 s"), "no answer within 300 s"),
        (GuestLockedUp("its kernel stands still"), None),
    ],
)
def test_a_guest_that_cannot_be_observed_then_has_failed_unless_its_host_stopped_it(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str | None
) -> None:
    def observes(_: object) -> None:
        raise error

    seen: Any = SimpleNamespace(scripts=SimpleNamespace(signature="a" * 128), rules={})
    monkeypatch.setattr(power, "reboot", lambda vm: None)
    monkeypatch.setattr(reboot, "ask_versions", lambda guest: Versions("4.22", "a" * 128))
    monkeypatch.setattr(reboot, "answered", lambda guest, commands: {})
    monkeypatch.setattr(reboot.rules, "parse", lambda sections: {})
    monkeypatch.setattr(reboot, "let_in", lambda before, now: Outcome("reboot.nobody-let-in", "passed"))
    monkeypatch.setattr(reboot, "site_of", lambda vm: None)
    monkeypatch.setattr(reboot.observation, "observe", observes)
    if expected is None:
        with pytest.raises(GuestLockedUp):
            reboot.reboot(vm(), None, "4.22", seen)
        return
    found = reboot.reboot(vm(), None, "4.22", seen)
    assert [row.name for row in found if row.verdict == "passed"] == [
        "reboot.comes-up", "reboot.same-scripts", "reboot.nobody-let-in",
    ]  # fmt: skip
    assert found[-1] == Outcome("reboot.observed.answers", "failed", expected)


def test_a_guest_whose_qemu_is_gone_then_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InfrastructureError, match="sysvm-1-r: QEMU has ended") as caught:
        judged(monkeypatch, None, InfrastructureError("the connection is gone"), vm("QEMU has ended"))
    assert caught.value.hint == "console log: console.log"


def test_a_machine_whose_guest_switched_it_off_is_no_fault_of_the_host(tmp_path: Any) -> None:
    class Gone:
        def isActive(self) -> int:
            return 0

    machine = Machine("vm", Gone(), tmp_path, printed_before=len("reboot: Power down\n"))
    (tmp_path / "console.log").write_text("reboot: Power down\nLinux version 6\n")
    assert "QEMU has ended" in machine.host_fault()
    (tmp_path / "console.log").write_text("reboot: Power down\nLinux version 6\n[ 9.0] reboot: Power down\n")
    assert machine.host_fault() == ""


def test_an_agent_that_does_not_come_back_has_failed_unless_its_network_has() -> None:
    def never(error: Exception) -> Any:
        def connected() -> None:
            raise error

        return SimpleNamespace(connected=connected)

    found = reboot._agent_connects(never(wait.DeadlineExceeded("the agent's connection: not within 150 s")))
    assert (found.name, found.verdict) == ("reboot.agent-connects", "failed")
    with pytest.raises(InfrastructureError, match="QEMU has ended"):
        reboot._agent_connects(never(InfrastructureError("the management network's QEMU has ended")))
    there: Any = SimpleNamespace(connected=lambda: None)
    assert reboot._agent_connects(there).verdict == "passed"
