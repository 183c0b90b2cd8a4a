"""Whatever interrupts a patch: power, kills, hangs, clocks; the VM is then wholly old or wholly new, and converges."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import Any

import pytest

from bundle import layout
from harness.checks import Outcome
from harness.kvmagent import patch
from harness.lab.expected_lines import FAILING_DISK
from harness.lab.faults import BeginFault, clock, power
from harness.lab.faults.moments import Moment, logged, nth_process
from harness.lab.faults.uploads import Landed
from harness.scenario import BundleFiles, Lab, PatchAnswer, Trial

_DAY, _YEAR = 86_400, 31_557_600
_STEPS = {"a-day-back": -_DAY, "a-year-on": _YEAR}
_OFF = {"ten-years-slow": -10 * _YEAR, "ten-years-fast": 10 * _YEAR}
# A patch of a router starts about a hundred processes; the random moment lies before one of these.
_PROCESSES = range(3, 90)
# While it is being undone: what scripts say of that in their log.
_UNDOING = logged("(?i)roll(ing|ed)? ?back|did not come back")


def _answered(trial: Trial, files: BundleFiles, answer: PatchAnswer) -> None:
    """Require that who was told of a success has the new scripts, and who was told of a failure the old ones."""
    signature = patch.ask_versions(trial.vm.guest).scripts
    new = signature == files.signature
    what = f"it says {answer.details!r}, and the VM runs {signature[:12]}…"
    trial.require("answer.true", "" if answer.success == new else what)


def _converges(trial: Trial, lab: Lab, why: str = "") -> None:
    """Require that a healthy patch succeeds, whatever was before."""
    files = trial.files(lab.new_bundle)
    answer = patch.patch(trial.vm.guest, files)
    trial.require(
        "patch.converges", "" if answer.success else f"{why}a healthy patch fails: {answer.details}"
    )
    told = patch.ask_versions(trial.vm.guest).scripts
    trial.require("patch.converged", "" if told == files.signature else f"the VM runs {told[:12]}…")


def _serves(trial: Trial) -> None:
    """Send a VM that has booted its rules, and prove them."""
    trial.send_rules()
    trial.prove_rules()


def _came(trial: Trial, met: bool, moment: Moment) -> None:
    """Record whether a random moment came: a patch that ends sooner is judged, too, but nothing has interrupted it."""
    late = f"the patch had ended before {moment}: nothing has interrupted it"
    trial.note([Outcome("moment.came", "passed") if met else Outcome("moment.came", "skipped", late)])


def _cut(
    trial: Trial, fault: BeginFault, files: BundleFiles, moment: Moment, trouble: tuple[str, ...] = (),
    *, flushed: bool = False,
) -> tuple[str, bool]:  # fmt: skip
    """Patch, let the power fail at a moment, boot again, and judge; returns when the power failed, and if then."""
    where, met = "", False

    def act() -> None:
        nonlocal where, met
        with fault("power.cut", moment=moment, patience=60.0, flushed=flushed) as cut:
            heard = _patch_until(trial, files, cut.watched)
        how = ", with everything written out" if flushed else ""
        where, met = f"{cut.where}{how}, the agent heard {heard or 'nothing'}", cut.watched.met

    trial.interrupted(files, act, booted=True, trouble=trouble)
    return f"power cut {where}: ", met


def _patch_until(trial: Trial, files: BundleFiles, watched: Any) -> str:
    """Patch until it ends or stands still; returns what the agent heard of it."""
    heard: list[PatchAnswer] = []
    thread = threading.Thread(target=lambda: heard.append(patch.patch(trial.vm.guest, files)), daemon=True)
    thread.start()
    while thread.is_alive() and not watched.met:
        thread.join(0.05)
    return heard[0].details if heard else ""


@pytest.mark.scenario("S06-power-cut", tags=("power-cut",))
def test_a_power_cut_leaves_the_old_or_the_new(
    lab: Lab, live_patch: Trial, fault: BeginFault, draw: random.Random
) -> None:
    """The power fails at a random moment of a patch: after the boot wholly old or new, and a patch succeeds."""
    files, moment = live_patch.files(lab.new_bundle), nth_process(draw.choice(_PROCESSES))
    # What was done last is on the disk by then, or in memory only.
    where, met = _cut(live_patch, fault, files, moment, flushed=draw.random() < 0.5)
    _came(live_patch, met, moment)
    _converges(live_patch, lab, where)
    _serves(live_patch)


@pytest.mark.scenario("S07-power-cut-in-rollback", tags=("power-cut",))
def test_a_power_cut_in_a_rollback_is_resumed(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """The power fails while a failed patch is being undone: the boot ends it, and a healthy patch succeeds."""
    service = lab.broken_service()
    files = live_patch.files(lab.broken_bundle())
    where, met = _cut(live_patch, fault, files, _UNDOING, (service,), flushed=True)
    live_patch.require("rollback.seen", "" if met else f"no rollback was under way: {where}")
    _converges(live_patch, lab, where)
    _serves(live_patch)


@pytest.mark.scenario("S06-killed-then-again")
def test_a_patch_that_was_killed_is_finished_or_undone_by_the_next(
    lab: Lab, live_patch: Trial, fault: BeginFault, draw: random.Random
) -> None:
    """Every process of the patch is killed at a random moment; the next patch, not forced, succeeds."""
    live_patch.brief = True
    files, moment, met = live_patch.files(lab.new_bundle), nth_process(draw.choice(_PROCESSES)), False

    def act() -> PatchAnswer:
        nonlocal met
        with fault("process.killed", moment=moment, who="all", patience=60.0) as told:
            killed = patch.patch(live_patch.vm.guest, files)
        met = bool(told.done)
        return killed if killed.success else patch.patch(live_patch.vm.guest, files)

    live_patch.watch(files, act)
    _came(live_patch, met, moment)


@pytest.mark.scenario("S31-power-cut-after-success")
def test_what_was_told_to_be_patched_stays_patched(lab: Lab, live_patch: Trial) -> None:
    """The power fails the moment after the patch has told its success: nothing of it is lost."""
    files = live_patch.files(lab.new_bundle)
    answer = PatchAnswer(False, "the patch was not run")

    def act() -> None:
        nonlocal answer
        answer = patch.patch(live_patch.vm.guest, files)
        power.boot_again(live_patch.vm)

    live_patch.interrupted(files, act, booted=True)
    live_patch.require("patch.succeeded", "" if answer.success else answer.details)
    _answered(live_patch, files, answer)
    _serves(live_patch)


@pytest.mark.scenario("S46-refused-then-boot")
def test_the_next_boot_installs_nothing_of_what_was_refused(lab: Lab, live_patch: Trial) -> None:
    """A damaged bundle is refused, and the power fails: the boot installs nothing of it, and a patch succeeds."""
    good = live_patch.files(lab.new_bundle)
    shorter = {**good.contents, layout.AGENT: good.contents[layout.AGENT][:-100]}
    answer = PatchAnswer(True, "the patch was not run")

    def act() -> None:
        nonlocal answer
        answer = patch.patch(live_patch.vm.guest, replace(good, contents=shorter))
        live_patch.vm.guest.run("sync")
        power.boot_again(live_patch.vm)

    case = live_patch.interrupted(good, act, booted=True)
    live_patch.require("refused", "the patch claims success" if answer.success else "")
    live_patch.require(
        "boot.old", "" if case.expected == "kept" else "the boot has installed what was refused"
    )
    _converges(live_patch, lab)
    _serves(live_patch)


@pytest.mark.scenario("S39-rollback-fails-too")
def test_a_rollback_that_fails_is_ended_by_the_next_boot(
    lab: Lab, live_patch: Trial, fault: BeginFault
) -> None:
    """Services come back neither with new nor with old files: told; after mending and a boot wholly old or new."""
    files = live_patch.files(lab.new_bundle)
    acting = "@(restart|reload|try-|start|reload-or-restart)*"
    answer = PatchAnswer(True, "the patch was not run")

    def act() -> None:
        nonlocal answer
        with fault("program.broken", names=["systemctl"], deed="fails", words=acting):
            answer = patch.patch(live_patch.vm.guest, files)
        live_patch.vm.guest.run("sync")
        power.boot_again(live_patch.vm)

    live_patch.interrupted(files, act, booted=True)
    live_patch.require("rollback.told", "the patch claims success" if answer.success else "")
    _converges(live_patch, lab, f"after {answer.details!r}: ")
    _serves(live_patch)


@pytest.mark.scenario("S47-child-hangs", tags=("long",))
def test_a_child_that_hangs_does_not_hang_the_patch(
    lab: Lab, live_patch: Trial, fault: BeginFault, draw: random.Random
) -> None:
    """A program that the patch has started never ends: there is an answer in time, old or new, and a patch succeeds."""
    files = live_patch.files(lab.new_bundle)
    answer, stopped = PatchAnswer(False, "the patch was not run"), False
    moment = nth_process(draw.randrange(10, 60))

    def act() -> None:
        nonlocal answer, stopped
        with fault("process.hangs", moment=moment, patience=60.0) as told:
            answer = patch.patch(live_patch.vm.guest, files)
        stopped = bool(told.done)

    live_patch.interrupted(files, act)
    live_patch.require("hang.answered", "" if "did not end within" not in answer.details else answer.details)
    _came(live_patch, stopped, moment)
    _answered(live_patch, files, answer)
    _converges(live_patch, lab, f"after {answer.details!r}: ")


@pytest.mark.scenario("S48-worker-killed")
def test_a_dead_worker_leaves_the_old_or_the_new_before_anybody_calls(
    lab: Lab, live_patch: Trial, fault: BeginFault, draw: random.Random
) -> None:
    """Only the process that does the work is killed, at a random moment: old or new at once, without another call."""
    files, moment, met = live_patch.files(lab.new_bundle), nth_process(draw.choice(_PROCESSES)), False
    answer = PatchAnswer(False, "the patch was not run")

    def act() -> None:
        nonlocal answer, met
        with fault("process.killed", moment=moment, who="worker", patience=60.0) as told:
            answer = patch.patch(live_patch.vm.guest, files)
        met = bool(told.done)

    live_patch.interrupted(files, act)
    _came(live_patch, met, moment)
    _answered(live_patch, files, answer)
    _converges(live_patch, lab, f"after {answer.details!r}: ")


@pytest.mark.scenario("S54-clock-steps")
@pytest.mark.parametrize("step", list(_STEPS))
def test_a_clock_that_steps_has_no_effect(
    lab: Lab, live_patch: Trial, fault: BeginFault, draw: random.Random, step: str
) -> None:
    """The clock steps in the middle of the patch, and is set right again after it: the patch succeeds all the same."""
    files, seconds = live_patch.files(lab.new_bundle), _STEPS[step]
    moment = nth_process(draw.randrange(10, 60))
    answer, stepped = PatchAnswer(False, "the patch was not run"), False

    def act() -> PatchAnswer:
        nonlocal answer, stepped
        with fault("operator.acts", command=clock.stepping(seconds), moment=moment) as beside:
            answer = patch.patch(live_patch.vm.guest, files)
        stepped = beside.ran
        if stepped:
            clock.step(live_patch.vm, -seconds)
        return answer

    live_patch.brief = True
    live_patch.watch(files, act)
    _came(live_patch, stepped, moment)


@pytest.mark.scenario("S28-clock-off")
@pytest.mark.parametrize("off", list(_OFF))
def test_a_clock_that_is_years_off_makes_no_false_success(
    lab: Lab, live_patch: Trial, fault: BeginFault, off: str
) -> None:
    """The clock is ten years off during the patch: it works or is refused, and the answer is true."""
    files = live_patch.files(lab.new_bundle)
    answer = PatchAnswer(False, "the patch was not run")

    def act() -> None:
        nonlocal answer
        with fault("clock.off", seconds=_OFF[off]):
            answer = patch.patch(live_patch.vm.guest, files)

    live_patch.interrupted(files, act)
    _answered(live_patch, files, answer)


@pytest.mark.scenario("S05-disk-errors")
def test_a_disk_that_fails_is_no_success(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """Every write fails from the upload's end on: no success is told; after a boot wholly old or new."""
    files = live_patch.files(lab.new_bundle)
    answer = PatchAnswer(True, "the patch was not run")

    def act() -> None:
        nonlocal answer
        answer = patch.patch(Landed(live_patch.vm.guest, fault("disk.errors")), files)
        power.boot_again(live_patch.vm)

    live_patch.interrupted(files, act, booted=True, trouble=FAILING_DISK)
    live_patch.require("errors.told", "the patch claims success" if answer.success else "")
    _converges(live_patch, lab, f"after {answer.details!r}: ")
    _serves(live_patch)
