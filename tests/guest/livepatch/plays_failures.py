"""Scenarios in which a service fails, a run is stopped, or two runs meet."""

from __future__ import annotations

import contextlib
import subprocess
import time
from dataclasses import replace

from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import JOURNAL, FolderVm, ScriptRun
from tests.guest.livepatch.vm_factory import (
    VmFactory,
    expect,
    expect_patched,
    expect_rolled_back,
    expect_same,
    scenario,
)

SCRIPT = "/var/cache/cloud/patch-sysvms.sh"
_STOPPED = "it is stopped at points that only our script has"
_ASKED = "it asks our script for its own account of what happened"
_LOCK = "it looks at the lock of our script"


def _write(lab: FolderVm, path: str, text: str) -> None:
    (lab.root / path).write_text(text)


@scenario("S01", legacy_fails=True)
def rolls_back_when_a_service_does_not_come_back(world: VmFactory) -> None:
    for type_, service in (("router", "haproxy"), ("secstorage", "cloud"), ("ilbvm", "haproxy")):
        with world.vm(type_) as lab:
            before, active = lab.state(), lab.active()
            expect_rolled_back(lab, lab.patch(world.broken()), before, service)
            expect_same(active, lab.active(), "the services")


@scenario("S01", own=_STOPPED)
def keeps_the_backup_until_the_rollback_is_proven(world: VmFactory) -> None:
    with world.vm() as lab:
        rows = [label for _, label in _trace(lab, bundles.broken())]
    with world.vm() as lab:
        lab.patch(bundles.broken(), LIVEPATCH_CRASH_AT=str(rows.index("prove the old state") + 1))
        expect((lab.root / JOURNAL / "attempt/facts").exists(), "the journal is gone before the proof")


@scenario("S01")
def restarts_the_failed_service_with_the_old_files(world: VmFactory) -> None:
    """With plain restarts, a service that is down after the patch is up after the rollback."""
    broken = replace(bundles.broken_content(), restart="always")
    with world.vm() as lab:
        before = lab.state()
        run = lab.patch(world.make(broken))
        expect_rolled_back(lab, run, before, "haproxy")
        expect(lab.foreign or "restart haproxy.service" in lab.systemctl_log(), "haproxy was not restarted")
        expect(lab.is_active("haproxy"), "haproxy stays down after the rollback")


@scenario("S01", legacy_fails=True)
def rolls_back_to_the_jars_of_one_release(world: VmFactory) -> None:
    """The agent starts with every jar of its folder."""
    with world.vm("consoleproxy") as lab:
        before = lab.jars()
        lab.patch(world.broken())
        expect_same(before, lab.jars(), "after the rollback the agent's class path")


@scenario("S04", legacy_fails=True)
def a_failed_patch_is_tried_again_unforced(world: VmFactory) -> None:
    """The management server skips a VM whose signature is the bundle's."""
    with world.vm() as lab:
        lab.patch(world.broken())
        expect(
            lab.signature() == bundles.old().signature,
            "after a failed patch the signature is not the old one",
        )
        expect_same(0, lab.patch(world.new()).status, "the exit status")
        expect(
            lab.read("opt/cloud/bin/configure.py") == "configure of 4.22\n", "the second patch did nothing"
        )
        expect(not (lab.root / "opt/cloud/bin/gone.sh").exists(), "a dropped file is still there")


@scenario("S04", own=_STOPPED)
def the_signature_is_invalid_while_a_patch_is_under_way(world: VmFactory) -> None:
    with world.vm() as lab:
        rows = [label for _, label in _trace(lab, bundles.new())]
    with world.vm() as lab:
        lab.patch(bundles.new(), LIVEPATCH_CRASH_AT=str(rows.index("enter phase restart") + 1))
        expect_same("in-progress", lab.signature(), "the signature")


@scenario("S04", legacy_fails=True)
def nobody_is_told_the_new_version_while_services_still_restart(world: VmFactory) -> None:
    with world.vm() as lab:
        lab.land(world.new())
        _stop_at_the_restarts(lab)
        expect(lab.signature() not in world.new().digests, "the signature is the new one before the end")


@scenario("S06", legacy_fails=True)
def a_killed_patch_leaves_old_or_new_after_the_next_run(world: VmFactory) -> None:
    """Killed while it works, then patched again: the result is the one of a single patch."""
    world.stage.prepare("router")
    for delay in (0.04, 0.08, 0.12, 0.16):
        with world.vm() as lab:
            lab.land(world.broken())
            _kill_after(lab, delay)
            lab.run("--recover") if world.script is None else None
            state = lab.state(times=False)
            old = {k: (*v[:3], 0) for k, v in world.stage.old["router"].items()}
            expect_same(old, state, f"the state after a kill at {delay} s")


@scenario("S06", legacy_fails=True)
def a_retry_keeps_the_first_good_backup(world: VmFactory) -> None:
    """Killed twice while services restart; the third run still knows the way back."""
    with world.vm() as lab:
        before = lab.state()
        for _ in range(2):
            lab.land(world.broken())
            _stop_at_the_restarts(lab)
        (lab.unit("dnsmasq") / "delay").unlink()
        expect_rolled_back(lab, lab.patch(world.broken()), before)


@scenario("S07", own=_STOPPED)
def a_stopped_rollback_resumes_at_boot_and_at_the_next_run(world: VmFactory) -> None:
    with world.vm() as lab:
        rows = _trace(lab, bundles.broken())
    middle = [i for i, (phase, _) in enumerate(rows, 1) if phase == "rollback"][3]
    for resume in ("boot", "run"):
        with world.vm() as lab:
            before = lab.state()
            lab.patch(bundles.broken(), LIVEPATCH_CRASH_AT=str(middle))
            if resume == "boot":
                lab.recover_at_boot()
                expect_same(before, lab.state(), "the state after the boot")
            expect_patched(lab.patch(bundles.new()), bundles.new(), lab)


@scenario("S15", legacy_fails=True)
def a_flapping_service_fails_the_patch(world: VmFactory) -> None:
    with world.vm() as lab:
        _write(lab, "run/lab/units/dnsmasq.service/flaps", "2\n")
        before = lab.state()
        run = lab.patch(world.new(), LIVEPATCH_SOAK="1")
        expect_rolled_back(lab, run, before, "dnsmasq")


@scenario("S15", legacy_fails=True)
def a_service_that_restarts_itself_fails_the_patch(world: VmFactory) -> None:
    with world.vm("secstorage") as lab:
        _write(lab, "run/lab/units/cloud.service/loops", "")
        run = lab.patch(world.new(), LIVEPATCH_SOAK="1")
        expect_same(1, run.status, "the exit status")
        expect("cloud" in run.output, f"the reason {run.output!r} does not name the service")


@scenario("S37", own="not every script looks what was restless before")
def what_was_started_again_and_again_before_is_not_blamed(world: VmFactory) -> None:
    """An agent that cannot run, and is started anew every few seconds, is as it was, and gets the new files."""
    for before in ({"restarts": "7\n", "age": "5\n"}, {"between": ""}):
        with world.vm("secstorage") as lab:
            for name, text in {**before, "loops": "", "fails": "1\n"}.items():
                _write(lab, f"run/lab/units/cloud.service/{name}", text)
            run = lab.patch(world.new(), LIVEPATCH_SOAK="1")
            expect_patched(run, world.new(), lab)
            expect(
                "cloud was started again and again before the patch"
                in lab.read("var/log/livepatchsystemvm.log"),
                "nobody is told",
            )
    # What was restless an hour ago, or once, is judged.
    for before in ({"restarts": "7\n"}, {"restarts": "1\n", "age": "5\n"}):
        with world.vm("secstorage") as lab:
            for name, text in {**before, "loops": ""}.items():
                _write(lab, f"run/lab/units/cloud.service/{name}", text)
            run = lab.patch(world.new(), LIVEPATCH_SOAK="1")
            expect_same(1, run.status, "the exit status")
            expect(
                "service cloud was started again by itself" in run.output, f"not the reason: {run.output!r}"
            )


@scenario("S15", own="not every script reloads")
def a_reload_under_way_is_waited_for(world: VmFactory) -> None:
    """A real haproxy is in state reloading for a moment: that is no failure, and no reason to look away."""
    with world.vm() as lab:
        _write(lab, "run/lab/units/haproxy.service/lingers", "5\n")
        expect_patched(lab.patch(world.new()), world.new(), lab)
        expect(not (lab.unit("haproxy") / "busy").read_text().strip("0\n"), "the patch did not wait")
    with world.vm() as lab:
        _write(lab, "run/lab/units/haproxy.service/lingers", "9999\n")
        before = lab.state()
        run = lab.patch(world.new(), LIVEPATCH_SERVICE_LIMIT="1")
        expect(
            run.status == 1 and "haproxy does not end its reload" in run.output, f"the run ended with {run}"
        )
        lab.boot_services()
        lab.recover_at_boot()
        expect_same(before, lab.state(), "the state after the next boot")


@scenario("S18", legacy_fails=True)
def the_second_of_two_patches_is_refused(world: VmFactory) -> None:
    with world.vm() as lab:
        _write(lab, "run/lab/units/dnsmasq.service/delay", "0.6\n")
        lab.land(world.new())
        wait = "while [ ! -e /run/lab/restarted ]; do sleep 0.01; done"
        second = f"{wait}; bash {SCRIPT} >/run/lab/second 2>&1; echo $? >>/run/lab/second"
        done = _finish(lab, f"({second}) & bash {SCRIPT}; status=$?; wait; exit $status")
        answer = lab.read("run/lab/second").splitlines()
        expect_patched(done, world.new(), lab)
        refused = answer[-1] == "2" and "another run is active" in answer[0]
        expect(refused or (lab.foreign and answer[-1] != "0"), f"the second run said {answer}")


@scenario("S18", own=_LOCK)
def the_lock_of_a_dead_run_is_taken_over(world: VmFactory) -> None:
    with world.vm() as lab:
        lab.land(bundles.new())
        # A child of the dead run still holds the lock.
        command = (
            "setsid bash -c 'exec 8>>/run/cloud-livepatch.lock; flock 8; echo $$ >&8; sleep 60 & exit';"
            f"bash {SCRIPT}"
        )
        expect_patched(_finish(lab, command), bundles.new(), lab)


@scenario("S23", own=_LOCK)
def a_lost_session_does_not_stop_the_run(world: VmFactory) -> None:
    with world.vm() as lab:
        lab.land(bundles.new())
        _write(lab, "run/lab/units/dnsmasq.service/delay", "0.3\n")
        done = _finish(
            lab,
            f"bash {SCRIPT} & front=$!; while [ ! -e /run/lab/restarted ]; do sleep 0.01; done;"
            "kill -HUP $front; wait $front; echo front $?; flock /run/cloud-livepatch.lock true",
        )
        expect("front 129" in done.stdout, f"the front ended with {done.stdout!r}")
        expect_same("committed", lab.status()["state"], "the answer to --status")
        expect_same(bundles.new().signature, lab.signature(), "the signature")


@scenario("S23", legacy_fails=True)
def a_cut_upload_of_the_script_is_no_success(world: VmFactory) -> None:
    """A transfer that ends early leaves a prefix of the script."""
    text = world.new().script
    for share in (0.2, 0.5, 0.8, 0.98):
        with world.vm() as lab:
            before = lab.state()
            cut = text[: int(len(text) * share)].rsplit("\n}\n", 1)[0] + "\n}\n"
            run = lab.patch(replace(world.new(), script=cut))
            expect(run.status != 0, f"a script of {share:.0%} ended with success")
            expect_same(before, lab.state(), "the state")


@scenario("S30", own=_LOCK)
def an_answer_that_nobody_reads_is_no_failure(world: VmFactory) -> None:
    with world.vm() as lab:
        lab.land(bundles.new())
        _finish(lab, f"bash {SCRIPT} | true; flock /run/cloud-livepatch.lock true")
        expect_same("committed", lab.status()["state"], "the answer to --status")
        expect_same(bundles.new().signature, lab.signature(), "the signature")


@scenario("S31", legacy_fails=True)
def nothing_is_lost_in_a_power_cut_right_after_success(world: VmFactory) -> None:
    for kind in ("lost", "torn"):
        with world.vm() as lab:
            lab.land(world.new())
            lab.power_on()
            expect_patched(lab.run(), world.new(), lab)
            before = lab.state(times=False)
            lab.power_cut(kind)
            lab.recover_at_boot()
            expect_same(before, lab.state(times=False), f"the state after a {kind} cut")


@scenario("S39", own=_ASKED)
def a_rollback_that_fails_stays_marked_and_is_resumed(world: VmFactory) -> None:
    for resume in ("boot", "by hand"):
        with world.vm() as lab:
            before = lab.state()
            _write(lab, "run/lab/units/dnsmasq.service/fails", "99\n")
            run = lab.patch(bundles.new())
            expect(run.status == 1 and "rollback incomplete" in run.output, f"the run ended with {run}")
            expect_same("stuck", lab.status()["state"], "the answer to --status")
            restarts = lab.systemctl_log().count("restart dnsmasq.service")
            expect(restarts <= 3, f"the rollback was tried more than once: {restarts} restarts")
            again = lab.patch(bundles.new())
            expect(again.status == 2 and "--recover" in again.output, f"a later run ended with {again}")
            expect_same(restarts, lab.systemctl_log().count("restart dnsmasq.service"), "the restarts")
            expect("--force" in lab.status()["way_out"], "--status names no way out")
            if resume == "boot":
                lab.recover_at_boot()
                expect_same(before, lab.state(), "the state after the boot")
                expect_same("rolled-back", lab.status()["state"], "the answer to --status")
            else:
                _write(lab, "run/lab/units/dnsmasq.service/fails", "0\n")
                expect_same(0, lab.run("--recover").status, "the status of the recovery")
                expect_same(before, lab.state(), "the state after the recovery")
            expect_patched(lab.patch(bundles.new()), bundles.new(), lab)


def _trace(lab: FolderVm, bundle: bundles.Bundle) -> list[tuple[str, str]]:
    lab.patch(bundle, LIVEPATCH_TRACE="/run/lab/trace")
    rows = [line.split("\t") for line in lab.read("run/lab/trace").splitlines()]
    return [(phase, label) for _, phase, label in rows]


def _stop_at_the_restarts(lab: FolderVm) -> None:
    """ScriptRun the script that has landed, and kill it with all of its processes while it restarts services.

    A run that ends before is left as it is: the play judges what it left.
    """
    (lab.root / "run/lab/restarted").unlink(missing_ok=True)
    _write(lab, "run/lab/units/dnsmasq.service/delay", "5\n")
    process = lab.start(SCRIPT)
    deadline = time.monotonic() + 20
    while process.poll() is None and not (lab.root / "run/lab/restarted").exists():
        expect(time.monotonic() < deadline, "no service was restarted within 20 s")
        time.sleep(0.005)
    process.kill()
    process.communicate()


def _finish(lab: FolderVm, command: str) -> ScriptRun:
    process = lab.start("-c", command)
    stdout, stderr = process.communicate(timeout=60)
    return ScriptRun(process.returncode, stdout.decode(), stderr.decode())


def _kill_after(lab: FolderVm, seconds: float) -> None:
    """Kill the run with all of its processes."""
    process = lab.start(SCRIPT)
    deadline = time.monotonic() + seconds
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, deadline - time.monotonic()))
    process.kill()
    process.communicate()
