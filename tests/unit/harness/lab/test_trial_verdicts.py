"""A trial's own verdicts: what it was to find is taken for found, refusals need their reason, boots make files anew."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bundle.errors import CheckFailed, InfrastructureError
from harness.checks import Outcome
from harness.guest.connection import ConnectionLost, GuestLockedUp
from harness.kvmagent.patch import BundleFiles, PatchAnswer
from harness.lab import trial as trials
from harness.lab import verdicts
from harness.lab.boots import lasting
from harness.lab.trial import Trial
from harness.lab.wish import Wish
from harness.record.events import Nowhere
from harness.vm.restart import RebootFailed
from tests.unit.harness.simulated_patch import File, failed_world, world

FILES = BundleFiles(None, {"cloud-scripts.tgz": b""}, "a" * 128)  # type: ignore[arg-type]


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Trial:
    vm: Any = SimpleNamespace(guest=SimpleNamespace(name="vm"), require_run=lambda: None)
    monkeypatch.setattr(Trial, "printed", lambda _self: 0)
    monkeypatch.setattr(trials, "site_of", lambda _vm: None)
    lab: Any = SimpleNamespace(events=Nowhere(), between={}, wish=Wish("router", "4.21", "4.22"))
    made = Trial(lab, vm, "S")
    lab.between = _Between(vm)
    return made


class _Between(dict[Any, Any]):
    """A table that takes VMs that cannot be hashed."""

    def __init__(self, _vm: Any) -> None:
        super().__init__()

    def pop(self, key: Any, default: Any = None) -> Any:
        return super().pop(id(key), default)


def test_a_check_that_fails_with_its_machine_is_no_failure_of_the_vm(trial: Trial) -> None:
    def gone() -> None:
        raise InfrastructureError("vm: QEMU has ended")

    trial.vm.require_run = gone  # type: ignore[method-assign]
    trial.note([Outcome("files.kept", "passed")])
    with pytest.raises(InfrastructureError, match="QEMU has ended"):
        trial.note([Outcome("files.kept", "failed", "the guest does not answer")])
    assert trial.failures == []


def test_a_check_that_fails_with_the_management_network_is_no_failure_of_the_vm(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise InfrastructureError("the management network's QEMU has ended")

    monkeypatch.setattr(trials, "site_of", lambda _vm: SimpleNamespace(require=gone))
    with pytest.raises(InfrastructureError, match="management network"):
        trial.note([Outcome("later.the agent is well", "failed", "no agent is connected")])
    assert trial.failures == []


def test_a_vm_that_does_not_boot_after_an_interruption_has_failed(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        raise RebootFailed("no SSH login within 300 s")

    monkeypatch.setattr(trial, "observed", lambda: (None, 0))
    trial.lab.narrator = SimpleNamespace(step=lambda *_: nullcontext())  # type: ignore[assignment]
    trial.vm.topology = SimpleNamespace(vm_name="r-10-VM")  # type: ignore[assignment]
    with pytest.raises(CheckFailed, match="does not boot"):
        trial.interrupted(FILES, act, booted=True)
    assert trial.failures == ["reboot.comes-up: no SSH login within 300 s"]


@pytest.mark.parametrize(
    "error", [ConnectionLost("the SSH connection is gone"), InfrastructureError("collecting ended early")]
)
def test_a_vm_that_cannot_be_observed_after_a_patch_has_failed(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, error: InfrastructureError
) -> None:
    def observe(*_: object) -> None:
        raise error

    monkeypatch.setattr(verdicts.observation, "observe", observe)
    with pytest.raises(CheckFailed, match="cannot be observed any more"):
        trial.look_again(None)
    assert trial.failures == [
        f"observed.answers: the VM cannot be observed any more since the patch: {error}"
    ]


def test_a_vm_that_its_host_does_not_run_or_lets_stand_still_has_not_failed(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def observe(*_: object) -> None:
        raise GuestLockedUp("its kernel stands still")

    monkeypatch.setattr(verdicts.observation, "observe", observe)
    with pytest.raises(GuestLockedUp):
        trial.look_again(None)

    def lost(*_: object) -> None:
        raise ConnectionLost("the SSH connection is gone")

    def gone() -> None:
        raise InfrastructureError("vm: QEMU has ended")

    monkeypatch.setattr(verdicts.observation, "observe", lost)
    trial.vm.require_run = gone  # type: ignore[method-assign]
    with pytest.raises(InfrastructureError, match="QEMU has ended"):
        trial.look_again(None)
    assert trial.failures == []


def test_what_was_to_be_found_is_no_failure_any_more(trial: Trial) -> None:
    trial.note(
        [Outcome("services.renewed", "failed", "haproxy runs on"), Outcome("files.kept", "failed", "x")]
    )
    trial.require_found("services.renewed", "HAPROXY")
    assert trial.failures == ["files.kept: x"]


@pytest.mark.parametrize("words", ["", "apache2"])
def test_what_nobody_found_is_a_failure(trial: Trial, words: str) -> None:
    if words:
        trial.note([Outcome("services.renewed", "failed", "haproxy runs on")])
    trial.require_found("services.renewed", words)
    assert trial.failures[-1].startswith("found.services.renewed: services.renewed saw nothing of it")


@pytest.mark.parametrize(
    ("answer", "failures"),
    [
        (PatchAnswer(False, "no space", ran=True), []),
        (PatchAnswer(False, "no", ran=True), ["refused.reason"]),
        (PatchAnswer(True, "space", ran=True), ["refused"]),
        (PatchAnswer(False, "upload failed: no space"), ["refused.by-script"]),
    ],
)
def test_a_refusal_needs_a_failure_and_its_reason(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, answer: PatchAnswer, failures: list[str]
) -> None:
    seen: list[Any] = []

    def watch(self: Trial, _files: BundleFiles, act: Any, *, expected: str, trouble: tuple[str, ...]) -> None:
        seen.append((self.brief, expected, act(), trouble))
        self.cases.append(failed_world().case())

    monkeypatch.setattr(Trial, "watch", watch)
    monkeypatch.setattr(verdicts.patch, "patch", lambda *_, **_options: answer)
    assert trial.refused(FILES, "SPACE", trouble=("its word",)) == answer
    assert seen == [(True, "kept", answer, ("its word",))]
    assert not trial.brief
    assert [line.partition(":")[0] for line in trial.failures] == failures


def test_a_refusal_restarts_nobody(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    made = failed_world()
    made.patched.units["dnsmasq.service"] = replace(
        made.patched.units["dnsmasq.service"], main=350, start=5000
    )
    monkeypatch.setattr(Trial, "watch", lambda self, *_, **_options: self.cases.append(made.case()))
    monkeypatch.setattr(verdicts.patch, "patch", lambda *_, **_options: PatchAnswer(False, "no", ran=True))
    trial.refused(FILES, "run")
    assert "refused.nobody-restarted: dnsmasq was restarted by a patch that was refused" in trial.failures


def test_only_what_a_patch_may_touch_and_no_boot_makes_is_compared_across_a_boot() -> None:
    made = world().before
    for path in ("/etc/hosts", "/etc/cloudstack/ips.json", "/run/x", "/var/log/x", "/optional"):
        made.files[path] = File()
    kept = lasting(made.observation()).state.entries
    assert "/etc/hosts" in kept
    assert not {"/etc/cloudstack/ips.json", "/run/x", "/var/log/x", "/optional"} & kept.keys()


def test_a_disk_that_the_host_could_not_read_is_told(trial: Trial) -> None:
    told: list[Outcome] = []
    trial.note = told.extend  # type: ignore[method-assign, assignment]
    case = world().case()
    trial._record(case, None, rules_sent=False)
    assert "files.by-host" not in {outcome.name for outcome in told}
    patched = replace(case.patched, state=replace(case.patched.state, unread="the journal makes no sense"))
    trial._record(replace(case, patched=patched), None, rules_sent=False)
    assert (told[-1].name, told[-1].verdict) == ("files.by-host", "error")
    before = replace(case.before, state=replace(case.before.state, from_host=False))
    trial._record(replace(case, before=before, patched=patched), None, rules_sent=False)
    assert (told[-1].name, told[-1].verdict) == ("files.by-host", "skipped")
    assert told[-1].reason.endswith("could not read: the journal makes no sense")
