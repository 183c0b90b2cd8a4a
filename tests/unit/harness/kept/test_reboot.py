"""The reboot of a kept VM by another process than the one that started it: what is called, and what is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bundle.errors import InfrastructureError
from harness.kept import reboot as kept_reboot
from harness.kept.listing import KeptVm
from harness.vm import restart
from harness.vm.restart import RebootFailed


@pytest.fixture
def kept(tmp_path: Path) -> KeptVm:
    return KeptVm(
        name="mine", run="abc123", vm_type="router", release="4.20", label="", ssh_port=1, ssh_key="",
        folder=str(tmp_path), endpoints={}, debian=None, network=None, template=None, golden="",
        source="a snapshot", tenants=[],
    )  # fmt: skip


class Domain:
    """A domain; ``on`` says whether libvirt runs it."""

    def __init__(self) -> None:
        self.on = True

    def isActive(self) -> bool:
        return self.on


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Domain:
    made = Domain()

    @contextmanager
    def hypervisor() -> Iterator[Any]:
        there = {"sysvm-abc123-mine": made}
        yield SimpleNamespace(connection=SimpleNamespace(lookupByName=there.__getitem__))

    monkeypatch.setattr(kept_reboot, "hypervisor", hypervisor)
    return made


def test_its_domain_is_restarted_and_stays_nobodys(
    kept: KeptVm, domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        restart, "reboot", lambda machine, guest, *, owned: seen.append((machine, guest, owned))
    )
    kept_reboot.reboot(kept, "its connection")  # type: ignore[arg-type]
    [(machine, guest, owned)] = seen
    assert (machine.handle, machine.folder, guest, owned) == (
        domain,
        Path(kept.folder),
        "its connection",
        False,
    )


@pytest.mark.parametrize(
    "error", [RebootFailed("it does not come up"), InfrastructureError("libvirt refuses")]
)
def test_one_that_is_off_afterwards_can_be_ended(
    kept: KeptVm, domain: Domain, monkeypatch: pytest.MonkeyPatch, error: InfrastructureError
) -> None:
    def fails(*_: object, **__: object) -> None:
        domain.on = False
        raise error

    monkeypatch.setattr(restart, "reboot", fails)
    with pytest.raises(type(error), match=str(error)) as caught:
        kept_reboot.reboot(kept, "its connection")  # type: ignore[arg-type]
    assert "'sysvm vm stop mine' ends it" in caught.value.hint


def test_one_that_does_not_shut_down_runs_on(
    kept: KeptVm, domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RebootFailed("it does not shut down")

    monkeypatch.setattr(restart, "reboot", fails)
    with pytest.raises(RebootFailed) as caught:
        kept_reboot.reboot(kept, "its connection")  # type: ignore[arg-type]
    assert domain.on
    assert caught.value.hint == ""
