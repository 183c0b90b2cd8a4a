"""What S24 says of each sort of VM: shut, open, or nobody there who could tell."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bundle.errors import InfrastructureError
from harness.guest.connection import SshCommandResult
from harness.machine.machine import Machine
from harness.scenarios import test_sshd as scenario
from harness.vm.types import of_type
from tests.serving import listening


class Notes:
    """A trial that only takes notes."""

    def __init__(self, vm: object) -> None:
        self.vm = vm
        self.notes: dict[str, tuple[str, str]] = {}

    def require(self, name: str, problem: str) -> None:
        self.notes[name] = ("failed" if problem else "passed", problem)

    def skip(self, name: str, reason: str) -> None:
        self.notes[name] = ("skipped", reason)


class Tenant:
    """A tenant that hears one thing on each address."""

    def __init__(self, name: str, *heard: str) -> None:
        self.name = name
        self.heard = heard

    def run(self, _script: str, **_options: object) -> SshCommandResult:
        return SshCommandResult("", 0, "\n".join(self.heard).rstrip("\n"), "", 0.0)


def saying(text: bytes) -> AbstractContextManager[int]:
    """Say something to whoever connects to a port of loopback."""
    return listening(lambda served: served.sendall(text))


def vm_of(vm_type: str, control: int, public: int = 0, tenants: tuple[Tenant, ...] = ()) -> Any:
    """Return a VM whose control address and, where QEMU plays it, public side are ports of loopback."""
    forwarded: list[tuple[int, int, str, int]] = []
    return SimpleNamespace(
        topology=of_type(vm_type),
        tenants={tenant.name: tenant for tenant in tenants},
        guest=SimpleNamespace(port=control),
        ports=SimpleNamespace(take=lambda: public),
        machine=SimpleNamespace(forward=lambda *words: forwarded.append(words)),
        forwarded=forwarded,
    )


def noted(vm: object) -> dict[str, tuple[str, str]]:
    trial: Any = Notes(vm)
    scenario._require_shut(trial, "now")
    return trial.notes


def test_where_nobody_is_near_nothing_is_said_to_be_shut() -> None:
    assert noted(vm_of("elbvm", control=1)) == {
        "sshd.shut-now": ("skipped", "nobody but the harness is on a network of this elbvm")
    }


@pytest.mark.parametrize("vm_type", ["consoleproxy", "secstorage"])
def test_an_agent_vm_is_tried_from_its_public_side(vm_type: str) -> None:
    with saying(b"SSH-2.0-x\r\n") as control, saying(b"") as public:
        vm = vm_of(vm_type, control, public)
        found = noted(vm)
    assert found == {"sshd.heard-now": ("passed", ""), "sshd.shut-now": ("passed", "")}
    address = next(nic.address for nic in vm.topology.nics if nic.role == "public")
    assert vm.forwarded == [(2, public, address, 3922)]


def test_a_daemon_on_the_public_side_is_found() -> None:
    with saying(b"SSH-2.0-x\r\n") as control:
        found = noted(vm_of("consoleproxy", control, control))
    assert found["sshd.shut-now"] == ("failed", "reached by the public side on 192.0.2.31")


def test_an_ear_that_hears_no_daemon_at_all_proves_nothing() -> None:
    with saying(b"") as control:
        found = noted(vm_of("consoleproxy", control, control))
    assert found["sshd.heard-now"] == ("failed", "the control address says ''")


@pytest.mark.parametrize(
    ("heard", "verdict"),
    [
        (("", "", ""), ("passed", "")),
        (("", "", "SSH-2.0-x"), ("failed", "reached by vm1 on 192.0.2.10")),
        (("SSH-2.0-x", "", ""), ("failed", "reached by vm1 on 10.1.1.1")),
    ],
)
def test_tenants_try_every_address(heard: tuple[str, ...], verdict: tuple[str, str]) -> None:
    with saying(b"SSH-2.0-x\r\n") as control, saying(b"") as public:
        found = noted(vm_of("router", control, public, (Tenant("vm1", *heard),)))
    assert found["sshd.shut-now"] == verdict


def test_a_forward_that_qemu_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []

    def monitor(_self: Machine, command: str, **arguments: object) -> str:
        told.append((command, arguments))
        return "" if len(told) == 1 else "could not set up host forwarding rule\r\n"

    monkeypatch.setattr(Machine, "monitor", monitor)
    machine = Machine("v-2-VM", None, Path())
    machine.forward(2, 20001, "192.0.2.31", 3922)
    rule = "hostfwd_add net2 tcp:127.0.0.1:20001-192.0.2.31:3922"
    assert told == [("human-monitor-command", {"command-line": rule})]
    with pytest.raises(InfrastructureError, match=r"QEMU refuses 'hostfwd_add .*: could not set up"):
        machine.forward(2, 20001, "192.0.2.31", 3922)
