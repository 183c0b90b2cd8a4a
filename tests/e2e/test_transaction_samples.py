"""The transaction's other samples on a real machine: ``nox -s e2e -- --transaction 3 -k transaction_samples``.

Programs that fail, workers that die alone, a program that hangs, a VM that is stuck, a rule that comes in the middle,
and a power cycle after each kind of refusal. The lab in ``tests/guest/livepatch`` walks all of them, with stand-ins for
what is genuine here: systemd, sockets, the engine of the rules, the boot.
"""

from __future__ import annotations

import json
import random
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bundle import layout
from bundle.derive import derive
from bundle.seal import ecdsa
from harness.kvmagent import patch
from harness.lab import faults
from harness.lab.faults import power
from harness.lab.faults.moments import logged
from harness.observe import files
from tests.e2e.test_transaction import (
    SCRIPT,
    SIGNATURE,
    STATUS,
    TRACE,
    require_settled,
    side_of,
    signatures_of,
)
from tests.guest.livepatch import helpers

SEED = 20260722
RECOVERY = "bash /var/lib/cloud-livepatch/patch-sysvms.sh"
TRUST = "/etc/cloudstack/livepatch-trust/1.pem"
FAILED = ("rolled-back", "failed", "none")
pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(1800)]


@pytest.fixture(scope="session", autouse=True)
def count(request):
    """The number of cases of each walk."""
    number = request.config.getoption("--transaction", default=0)
    if not number:
        pytest.skip("nox -s e2e -- --transaction N runs it: eight minutes with 2")
    return number


def land(lab, guest, bundle=None):
    """Upload a bundle; without one, that of the new release."""
    patch.upload(guest, patch.read_files(bundle or lab.new_bundle))


def run(guest, knobs="", deadline=300):
    """Run the script that was uploaded."""
    return guest.run(f"LIVEPATCH_SOAK=1 {knobs} {SCRIPT}", deadline=deadline, check=False)


def status(guest):
    """Return what the VM says about its last patch."""
    return json.loads(guest.run(STATUS).stdout)


def require_true(lab, vm, before, signatures, done, what):
    """Fail unless the VM is old or new at once, as the answer said; returns which of the two."""
    if vm.guest.run("ls -d /var/lib/cloud-livepatch/attempt", check=False).status == 0:
        assert done.status == 1 and any(
            word in done.stderr for word in ("incomplete", "not finished", "did not end")
        ), f"{what}: a journal is open, and the answer does not say so: {done}"
        vm.guest.run(f"{RECOVERY} --recover", deadline=300)
    side = side_of(vm.guest, before, lab.new_bundle, what)
    assert (done.status == 0) == (side == "new") or "not finished" in done.stderr, f"{what}: {side}, {done}"
    assert done.status or done.stdout == f"version:{signatures['new']} \n", f"{what}: {done}"
    require_settled(vm.guest, side, signatures, FAILED)
    return side


def test_no_program_that_fails_is_taken_for_an_answer(lab, count, tmp_path, record_property):
    """The n-th program that a patch calls fails, or is killed, before or after its work."""
    draw, program = random.Random(f"{SEED} helpers"), tmp_path / "helper"
    subprocess.run(
        ["gcc", "-O1", "-static", "-o", program, Path(helpers.__file__).with_name("helper.c")], check=True
    )
    for number in draw.sample(range(1, 90), count):
        how = draw.choice([how for how in helpers.HOWS if how != "hang"])
        with lab.system_vm(f"helper-{number}") as vm:
            before, signatures = files.take(vm.guest), signatures_of(vm.guest, lab.new_bundle)
            vm.guest.put(program.read_bytes(), "/usr/local/sbin/helper", 0o755)
            land(lab, vm.guest)
            links = " ".join(f"/usr/local/sbin/{name}" for name in helpers.PROGRAMS)
            vm.guest.run(f"mkdir -p /run/lab; for name in {links}; do ln -s helper $name; done")
            vm.guest.run(f"echo {number} {how} >/run/lab/helper")
            done = run(vm.guest)
            called = vm.guest.run(
                f"/usr/bin/rm /run/lab/helper {links}; cat /run/lab/helper.log"
            ).stdout.split()
            what = f"call {number} of {len(called)}, {called[number - 1 : number]}: {how}"
            record_property("helper", f"{what}: {require_true(lab, vm, before, signatures, done, what)}")


def test_the_vm_is_old_or_new_at_once_when_the_worker_alone_dies(lab, count, record_property):
    draw = random.Random(f"{SEED} deaths")
    for point in draw.sample(range(1, 60), count):
        with lab.system_vm(f"death-{point}") as vm:
            before, signatures = files.take(vm.guest), signatures_of(vm.guest, lab.new_bundle)
            land(lab, vm.guest)
            done = run(vm.guest, f"LIVEPATCH_CRASH_AT={point} LIVEPATCH_TRACE={TRACE}")
            where = vm.guest.run(f"tail -n 1 {TRACE}").stdout.strip()
            side = require_true(lab, vm, before, signatures, done, f"killed at {point} ({where})")
            record_property("death", f"{point}, {where}: {side}")


# A call of systemctl has a time limit of its own; any other program is ended by the caller's side.
HANGS = {
    "systemctl": ("@(restart|reload)*", "was rolled back, cannot bring service"),
    "install": ("*", "time limit ran out, could not stage what is committed"),
}


@pytest.mark.parametrize("name", HANGS)
def test_what_hangs_ends_in_time_and_is_undone(lab, name):
    """Only the first call hangs; a restart of the rollback does its work."""
    words, said = HANGS[name]
    with lab.system_vm(f"hangs-{name}") as vm:
        before, signatures = files.take(vm.guest), signatures_of(vm.guest, lab.new_bundle)
        land(lab, vm.guest)
        with faults.begin("program.broken", vm, names=[name], deed="hangs", words=words, last=1):
            done = run(vm.guest, "LIVEPATCH_LIMIT=30 LIVEPATCH_SERVICE_LIMIT=30", deadline=240)
        assert (done.status, said in done.stderr) == (1, True), done
        assert done.seconds < 120, done
        assert require_true(lab, vm, before, signatures, done, f"{name} hangs") == "old"


def test_what_is_stuck_is_left_alone_and_has_a_way_out(lab):
    """A service comes back neither with the new files nor with the old ones."""
    with lab.system_vm("stuck") as vm:
        guest, before = vm.guest, files.take(vm.guest)
        signatures = signatures_of(guest, lab.new_bundle)
        land(lab, guest)
        words = "restart*dnsmasq.service"
        with faults.begin("program.broken", vm, names=["systemctl"], deed="fails", words=words):
            done = run(guest)
            assert done.status == 1 and "rollback incomplete" in done.stderr, done
            said = status(guest)
            assert said["state"] == "stuck" and said["way_out"] in done.stderr, said
            processes = guest.run("systemctl show -p MainPID haproxy apache2 cron ssh").stdout
            land(lab, guest)
            again = run(guest)
            assert (again.status, said["way_out"] in again.stderr) == (2, True), again
            assert guest.run("systemctl show -p MainPID haproxy apache2 cron ssh").stdout == processes
        guest.run(f"{RECOVERY} --recover", deadline=300)
        assert side_of(guest, before, lab.new_bundle, "after --recover") == "old"
        require_settled(guest, "old", signatures)
        assert guest.run("systemctl is-active dnsmasq").stdout == "active\n"


def test_an_old_copy_that_nobody_can_remove_holds_nothing_up(lab):
    """It is made immutable while services restart."""
    with lab.system_vm("immutable") as vm:
        guest = vm.guest
        signatures = signatures_of(guest, lab.new_bundle)
        land(lab, guest)
        # The one of the live system is another file by then.
        keep = "chattr +i $(find /.cloud-livepatch/backup -type f | head -n 1)"
        with faults.begin("operator.acts", vm, command=keep, moment=logged("restart bring service")) as acted:
            done = run(guest)
        assert acted.ran and not acted.problem, acted
        assert (done.status, done.stdout) == (0, f"version:{signatures['new']} \n"), done
        assert guest.run("ls -d /.cloud-livepatch.kept-1 /.cloud-livepatch", check=False).stdout.split() == [
            "/.cloud-livepatch.kept-1"
        ]
        assert status(guest)["state"] == "committed"
        assert "/.cloud-livepatch.kept-1" in guest.run("cat /var/log/livepatchsystemvm.log").stdout
        land(lab, guest)
        assert run(guest).status == 0


# A rule as the engine of the VM applies it, under its own lock.
RULE = """
import sys
sys.path.insert(0, "/opt/cloud/bin")
from cloudrules import engine
with engine._locked(float(sys.argv[1])):
    engine._refuse_half_patched()
    with open("/etc/haproxy/haproxy.cfg", "a") as file:
        file.write("# a rule\\n")
"""
# The worker is stopped in the middle of its changes; the rule comes, and has to wait for the end.
IN_THE_MIDDLE = f"""
LIVEPATCH_SOAK=1 LIVEPATCH_CRASH_SIGNAL=STOP {SCRIPT} >/run/patch.out 2>&1 & patch=$!
stopped() {{ worker=$(cat /run/cloud-livepatch.lock 2>/dev/null) && grep -qs '^State:.T' /proc/$worker/status; }}
until stopped; do kill -0 $patch || exit 9; sleep 0.1; done
python3 /run/rule.py 200 & rule=$!
sleep 1; kill -0 $rule && kill -CONT $worker
wait $patch; patch=$?; wait $rule; echo $patch $?
"""


@pytest.mark.parametrize("story", ["patch", "rollback"])
def test_no_rule_that_comes_in_the_middle_is_lost(lab, count, story):
    draw = random.Random(f"{SEED} rules {story}")
    bundle = lab.new_bundle if story == "patch" else lab.broken_bundle()
    for point in draw.sample(range(2, 36), count):
        with lab.system_vm(f"rule-{story}-{point}") as vm:
            signatures = signatures_of(vm.guest, bundle)
            land(lab, vm.guest, bundle)
            vm.guest.put(RULE.encode(), "/run/rule.py")
            knobs = f"export LIVEPATCH_CRASH_AT={point} LIVEPATCH_TRACE={TRACE};"
            said = vm.guest.run(f"{knobs} {IN_THE_MIDDLE}", deadline=300).stdout.split()
            where = vm.guest.run(f"sed -n {point}p {TRACE}").stdout
            assert said[-2:] == [{"patch": "0", "rollback": "1"}[story], "0"], (where, said)
            assert vm.guest.run("tail -n 1 /etc/haproxy/haproxy.cfg").stdout == "# a rule\n", where
            side = {"patch": "new", "rollback": "old"}[story]
            assert vm.guest.run(f"cat {SIGNATURE}").stdout.strip() == signatures[side], where


def _trust(guest, folder):
    """Install a key that bundles must be signed with."""
    ecdsa.generate(folder / "key")
    guest.run(f"mkdir -p {TRUST.rpartition('/')[0]}")
    guest.put((folder / "key.pub").read_bytes(), TRUST)


def _unsigned(lab, guest, folder):
    _trust(guest, folder)
    land(lab, guest)
    assert "the manifest is unsigned" in run(guest).stderr


def _never_run(lab, guest, folder):
    _trust(guest, folder)
    land(lab, guest)


def _shortened(lab, guest, folder):
    contents = patch.read_files(lab.new_bundle)
    patch.upload(guest, contents | {layout.AGENT: contents[layout.AGENT][:-100]})
    assert f"the digest of {layout.AGENT}" in run(guest).stderr


def _restated(lab, guest, folder, **facts):
    land(
        lab,
        guest,
        derive(
            lab.new_bundle, folder / "restated", lambda _: None, restate=lambda row: replace(row, **facts)
        ),
    )
    return run(guest)


def _foreign(lab, guest, folder):
    assert "the bundle is for arm64" in _restated(lab, guest, folder, architecture="arm64").stderr


def _too_new(lab, guest, folder):
    assert "is older than 9.9.0" in _restated(lab, guest, folder, minimum_template="9.9.0").stderr


def _locked(lab, guest, folder):
    land(lab, guest)
    done = guest.run(f"flock /run/cloud/rules.lock env LIVEPATCH_RULES_LIMIT=1 {SCRIPT}", check=False)
    assert done.status == 2 and "rules are being applied" in done.stderr, done


def _rolled_back(lab, guest, folder):
    land(lab, guest, lab.broken_bundle())
    assert "rolled back" in run(guest).stderr


def _killed(lab, guest, folder):
    land(lab, guest)
    assert run(guest, "LIVEPATCH_CRASH_WHOLE=1 LIVEPATCH_CRASH_AT=20").status == 1


REFUSALS = [_unsigned, _never_run, _shortened, _foreign, _too_new, _locked, _rolled_back, _killed]


@pytest.mark.parametrize("refusal", REFUSALS, ids=[refusal.__name__.strip("_") for refusal in REFUSALS])
def test_no_boot_installs_what_a_patch_refused_or_undid(lab, tmp_path, refusal):
    """What was seen: an unsigned bundle was refused, and the next boot unpacked it."""
    with lab.system_vm(refusal.__name__.strip("_").replace("_", "-")) as vm:
        before, signatures = files.take(vm.guest), signatures_of(vm.guest, lab.new_bundle)
        refusal(lab, vm.guest, tmp_path)
        vm.guest.run("sync")
        power.boot_again(vm)
        assert side_of(vm.guest, before, lab.new_bundle, "after the boot") == "old"
        assert vm.guest.run(f"cat {SIGNATURE}").stdout.strip() == signatures["old"]
        there = vm.guest.run("cd /var/cache/cloud && ls agent.zip cloud-scripts.tgz", check=False).stdout
        assert there == "", "the next boot would meet them"
