"""Patches that fail, fail well: a helper program, a service that flaps, little memory, locks, other writers."""

from __future__ import annotations

import random
import re
from contextlib import AbstractContextManager
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from harness import network
from harness.checks import Outcome, shipped
from harness.kvmagent import patch
from harness.lab import faults
from harness.lab.expected_lines import of_failing_service
from harness.lab.faults import BeginFault, programs
from harness.lab.faults.moments import changed, nth_process
from harness.network.flows import flows
from harness.network.model import Egress, PortRange
from harness.scenario import BundleFiles, Lab, PatchAnswer, SshGuest, Trial
from harness.traffic import proofs

# What systemd is asked to do with a service, in whatever words a script has for it.
_ACTING = "@(restart|reload|try-|start|reload-or-restart)*"
# How a script says that another patch is under way, in whatever words it has for it.
_BESIDE = re.compile(
    r"\b(another (run|patch)|already|active|running|runs|in progress|lock(ed)?|busy)\b", re.IGNORECASE
)
_HELPERS = {
    "systemctl": _ACTING,
    "ss": "*",
    "tar": "*",
    "find": "*",
    "sort": "*",
    "sha512sum": "*",
    "unzip": "*",
}


def _interrupted(trial: Trial, files: BundleFiles, around: AbstractContextManager[Any]) -> PatchAnswer:
    """Patch within a fault and judge: old or new, as the answer says; returns the answer."""
    answer = PatchAnswer(False, "the patch was not run")

    def act() -> None:
        nonlocal answer
        with around:
            answer = patch.patch(trial.vm.guest, files)

    case = trial.interrupted(files, act)
    side = "new" if case.expected == "patched" else "old"
    true = answer.success == (side == "new")
    trial.require("answer.true", "" if true else f"it says {answer.details!r}, and the VM is the {side} one")
    return answer


@pytest.mark.scenario("S43-helper-fails", untouched=True)
@pytest.mark.parametrize("name", list(_HELPERS))
def test_a_helper_that_fails_is_never_a_success(
    lab: Lab, live_patch: Trial, fault: BeginFault, draw: random.Random, name: str
) -> None:
    """A program that the script calls fails, or is killed, the first time: told as a failure, and all is old."""
    if not _names(lab, name):
        live_patch.skip("helper.called", f"the script under test does not name {name}")
        return
    files = live_patch.files(lab.new_bundle)
    deed = draw.choice(("fails", "dies"))
    answer, called = PatchAnswer(False, "the patch was not run"), 0

    def act() -> None:
        nonlocal answer, called
        with fault("program.broken", names=[name], deed=deed, words=_HELPERS[name], last=1):
            answer = patch.patch(live_patch.vm.guest, files)
            called = programs.calls(live_patch.vm, name)

    case = live_patch.interrupted(files, act)
    if not called:
        live_patch.skip("helper.told", f"{name} was not called on this VM")
        return
    live_patch.require("helper.told", "the patch claims success" if answer.success else "")
    live_patch.require("helper.old", "" if case.expected == "kept" else "the VM is the new one")


def _names(lab: Lab, name: str) -> bool:
    """Say whether the text of the patch script has the name of a program as a word."""
    words = (lab.new_bundle / "patch-sysvms.sh").read_text(errors="replace").replace("(", " ").split()
    return name in words


@pytest.mark.scenario("S04-failed-then-the-same")
def test_the_same_bundle_patches_after_it_has_failed(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """A patch fails because one restart did; the same bundle, not forced, then really patches."""
    live_patch.brief = True
    files = live_patch.files(lab.new_bundle)

    def act() -> PatchAnswer:
        with fault("program.broken", names=["systemctl"], deed="fails", words=_ACTING, last=1):
            return patch.patch(live_patch.vm.guest, files)

    case = live_patch.watch(files, act, expected="kept")
    told = case.answer.success if case.answer else True
    live_patch.require("patch.failed", "the patch claims success" if told else "")
    again = live_patch.patch(lab.new_bundle)
    live_patch.require("patch.converges", "" if again.patched else f"it does not patch: {again.details}")


@pytest.mark.scenario("S15-flapping-service")
def test_a_service_that_dies_seconds_later_is_a_failure(lab: Lab, live_patch: Trial) -> None:
    """A bundle whose service dies four seconds after its start: rolled back, and a healthy bundle succeeds."""
    live_patch.brief = True
    service = lab.broken_service()
    bundle = lab.faulty_bundle(faults.fault(f"{service}.flaps"))
    answer = live_patch.patch(bundle, expected="kept", trouble=of_failing_service(service))
    live_patch.require("flap.told", "the patch claims success" if answer.success else "")
    named = service in answer.details
    live_patch.require("flap.reason", "" if named else f"no {service} in: {answer.details!r}")
    healthy = live_patch.patch(lab.new_bundle, trouble=of_failing_service(service))
    live_patch.require("patch.converges", "" if healthy.patched else f"it fails: {healthy.details}")


@pytest.mark.scenario("S18-second-patch-refused")
def test_of_two_patches_at_once_one_is_refused(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """A second patch is begun in the middle of the first: refused with a reason, and the first succeeds."""
    live_patch.brief = True
    files = live_patch.files(lab.new_bundle)
    second: Any = None

    def act() -> PatchAnswer:
        nonlocal second
        with fault("patch.second", files=files, moment=nth_process(25)) as second:
            return patch.patch(live_patch.vm.guest, files)

    live_patch.watch(files, act)
    answer = second.answer
    problem = second.problem or ("it claims success" if answer.success else _unnamed(answer.details))
    live_patch.require("second.refused", problem)


def _unnamed(details: str) -> str:
    """Return what is wrong with the answer to a second patch, which has to say that another one is under way."""
    return "" if _BESIDE.search(details) else f"it does not say that another patch runs: {details!r}"


@pytest.mark.scenario("S33-package-lock-held")
def test_a_foreign_lock_is_no_false_success(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """Somebody holds the locks of dpkg all through the patch: it works without packages, or fails and is undone."""
    _interrupted(live_patch, live_patch.files(lab.new_bundle), fault("lock.foreign"))


@pytest.mark.scenario("S35-little-memory")
def test_little_memory_kills_nobody(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """There are 40 MiB of memory left: refused or passed, and nobody is killed for memory."""
    _interrupted(live_patch, live_patch.files(lab.new_bundle), fault("memory.little", leave=40))
    killed = live_patch.vm.guest.run("dmesg | grep -ic 'out of memory\\|oom-kill' || true").stdout.strip()
    live_patch.require("memory.nobody-killed", "" if killed == "0" else f"the kernel says so {killed} times")


@pytest.mark.scenario("S05-slow-disk")
def test_a_slow_disk_is_no_failure(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """The disk moves half a megabyte a second: the patch takes its time, and succeeds."""
    answer = _interrupted(live_patch, live_patch.files(lab.new_bundle), fault("disk.slow", rate=512 << 10))
    live_patch.require("patch.succeeded", "" if answer.success else answer.details)


@pytest.mark.scenario("S45-touched-while-it-fails")
def test_a_file_that_is_touched_while_the_patch_fails(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """An owned file is touched by hand while a patch fails: all is old, and services are not restarted on and on."""
    live_patch.brief = True
    service = lab.broken_service()
    files = live_patch.files(lab.broken_bundle())
    path = _changes(live_patch, files)

    touched: Any = None

    def act() -> PatchAnswer:
        nonlocal touched
        with fault("operator.acts", command=f"touch {path}", moment=changed(path)) as touched:
            return patch.patch(live_patch.vm.guest, files)

    live_patch.watch(files, act, expected="kept", trouble=of_failing_service(service))
    live_patch.require("operator.acted", touched.problem or ("" if touched.ran else "nobody has touched it"))
    case = live_patch.cases[-1]
    before, after = (moment.services.get(service) for moment in (case.before, case.after))
    more = after.restarts - before.restarts if before and after else 0
    live_patch.require("services.not-again", "" if more < 4 else f"systemd restarted {service} {more} times")


def _changes(trial: Trial, files: BundleFiles) -> str:
    """Return an owned file that a bundle brings in another version than the VM has."""
    old = shipped.read(patch.load_bundle(trial.lab.old_bundle), trial.lab.wish.vm_type)
    for path, row in shipped.read(files, trial.lab.wish.vm_type).items():
        known = old.get(path)
        if known and path.startswith("/opt/cloud/bin/") and row.kind == "file" and known.sha256 != row.sha256:
            return path
    pytest.skip("no script differs between the two releases")


@pytest.mark.scenario(
    "S44-rule-in-the-middle", types=("router",), why="its rule is an egress rule of an isolated network"
)
def test_a_rule_in_the_middle_is_in_force(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """A server sends a rule in the middle of the patch: in force afterwards, or refused and then sent again."""
    assert lab.network is not None  # noqa: S101 - a router has one
    files = live_patch.files(lab.new_bundle)
    everybody = (lab.network.inside[0].address.network,)
    rule = Egress("tcp", PortRange(22, 22), everybody, (IPv4Network("0.0.0.0/0"),))
    wanted = replace(lab.network, egress=(*lab.network.egress, rule))
    tells = set(flows(wanted)) != set(flows(lab.network))
    live_patch.require("rule.tells", "" if tells else "this network's requests end the same without the rule")
    steps = network.Orders(wanted, lab.old.name).egress_changed()
    sent: Any = None

    def send(guest: SshGuest) -> None:
        network.deliver(guest, steps)

    def act() -> None:
        nonlocal sent
        with fault("rule.in-the-middle", moment=nth_process(30), send=send) as sent:
            answer = patch.patch(live_patch.vm.guest, files)
        live_patch.require("patch.succeeded", "" if answer.success else answer.details)
        if sent.problem:
            network.deliver(live_patch.vm.guest, steps)

    live_patch.interrupted(files, act, only=("version", "services", "identity", "console"))
    live_patch.note(
        [Outcome("moment.came", "passed") if sent.ran else Outcome("moment.came", "skipped", sent.problem)]
    )
    for proof in proofs.prove(live_patch.vm, wanted):
        live_patch.require(f"request.{proof.name}", proof.reason)
