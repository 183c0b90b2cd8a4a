"""States that nothing led out of: each has a way out, which is walked here, and --status prints it."""

from __future__ import annotations

import json

import pytest

from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import JOURNAL
from tests.guest.livepatch.states import differences

SCRIPT = "/var/cache/cloud/patch-sysvms.sh"
ATTEMPT = f"{JOURNAL}/attempt"


def hook(lab, name, text):
    """Run shell code before a program of the lab's."""
    program = lab.root / "usr/local/sbin" / name
    if program.exists():
        program.rename(program.with_name(f"{name}.real"))
        real = f"/usr/local/sbin/{name}.real"
    else:
        real = f"/usr/bin/{name}"
    program.write_text(f'#!/bin/bash\n{text}\nexec {real} "$@"\n')
    program.chmod(0o755)


def _stop_in(lab, bundle, label):
    """Kill the whole run before its first effect with this label."""
    probe = lab.clone(lab.root.with_name(lab.root.name + "-probe"))
    probe.patch(bundle, LIVEPATCH_TRACE="/run/lab/trace")
    rows = [line.split("\t")[2] for line in probe.read("run/lab/trace").splitlines()]
    run = lab.patch(bundle, LIVEPATCH_CRASH_AT=str(rows.index(label) + 1))
    assert run.status == 1, run


@pytest.mark.parametrize("change", ["touch /etc/cron.hourly/watch", "echo more >>/etc/cron.hourly/watch"])
def test_a_file_that_is_changed_in_place_meanwhile_keeps_the_change(lab, change):
    """It is the old file still: its number says so."""
    hook(lab, "sync", f"[[ $1 != -f || -e /run/lab/once ]] || {{ {change}; : >/run/lab/once; }}")
    before = lab.state(times=False)
    run = lab.patch(bundles.broken())
    assert (run.status, "rolled back" in run.output) == (1, True), run
    assert lab.status()["state"] == "rolled-back"
    changed = ["etc/cron.hourly/watch"] if "echo" in change else []
    assert differences(before, lab.state(times=False)) == changed
    assert "/etc/cron.hourly/watch was changed during the patch" in lab.read("var/log/livepatchsystemvm.log")


def test_an_old_copy_that_cannot_be_removed_holds_nothing_up(lab, stage):
    """As when it is immutable: the patch is proven, and its rest is kept under a name that the log tells."""
    hook(lab, "rm", '[[ "$*" != *"/.cloud-livepatch"* ]] || exit 1')
    for number in (1, 2):
        run = lab.patch(bundles.new())
        assert run.output == f"version:{bundles.new().signature} \n", run
        assert (lab.root / f".cloud-livepatch.kept-{number}/backup").is_dir()
        assert not (lab.root / ATTEMPT).exists()
    assert differences(stage.new["router"], lab.state(times=False)) == []
    assert "/.cloud-livepatch.kept-2" in lab.read("var/log/livepatchsystemvm.log")


DAMAGES = {
    "an unknown phase": ("phase", lambda data: b"other" + data[5:]),
    "an empty phase": ("phase", lambda data: b""),
    "empty lists": ("lists", lambda data: b""),
    "a list that is cut off": ("lists", lambda data: data[: len(data) // 2]),
    "a list with another path": ("lists", lambda data: data.replace(b"watch", b"witch")),
    "facts of something else": ("facts", lambda data: data.replace(b"a", b"b", 1)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_is_stuck_and_loses_nothing(lab, damage):
    name, change = DAMAGES[damage]
    _stop_in(lab, bundles.new(), "watch the services")
    file = lab.root / ATTEMPT / name
    file.write_bytes(change(file.read_bytes()))
    backup = sorted(str(path) for path in (lab.root / ".cloud-livepatch").rglob("*"))
    run = lab.run("--recover")
    assert run.status == 1 and "--force" in run.output, run
    status = lab.status()
    assert status["state"] == "stuck" and "--recover" in status["way_out"], status
    assert sorted(str(path) for path in (lab.root / ".cloud-livepatch").rglob("*")) == backup
    assert lab.patch(bundles.new()).status == 2
    forced = lab.run("--recover", "--force")
    assert forced.status == 0 and "/.cloud-livepatch.kept-1" in forced.output, forced
    assert lab.status()["state"] == "forced"
    assert (lab.root / ".cloud-livepatch.kept-1/backup/etc/cron.hourly/watch").exists()
    assert lab.patch(bundles.new()).status == 0


def test_a_damaged_packet_filter_of_the_journal_is_never_loaded(stage):
    """It is what a rollback would open the VM with."""
    with stage.clone("consoleproxy") as lab:
        _stop_in(lab, bundles.new(), "watch the services")
        kept = lab.root / ATTEMPT / "filter"
        kept.write_text(kept.read_text().replace("COMMIT", "-A INPUT -j ACCEPT\nCOMMIT"))
        rules = lab.filter_rules()
        run = lab.run("--recover")
        assert run.status == 1 and "the journal is damaged" in run.output, run
        assert lab.status()["state"] == "stuck" and lab.filter_rules() == rules


def test_a_journal_without_its_phase_is_stuck_once_something_has_changed(lab):
    _stop_in(lab, bundles.new(), "watch the services")
    (lab.root / ATTEMPT / "phase").unlink()
    assert lab.run("--recover").status == 1
    assert lab.status()["state"] == "stuck"


def test_force_settles_a_rollback_whose_service_stays_down(lab):
    """The files are undone as far as they can be; what is left is kept and named."""
    (lab.unit("dnsmasq") / "fails").write_text("99\n")
    before = lab.state(times=False)
    assert "rollback incomplete" in lab.patch(bundles.new()).output
    forced = lab.run("--recover", "--force")
    assert forced.status == 0 and "could not bring the services back" in forced.output, forced
    assert differences(before, lab.state(times=False)) == []
    assert not (lab.root / ATTEMPT).exists()
    (lab.unit("dnsmasq") / "fails").write_text("0\n")
    assert lab.patch(bundles.new()).status == 0


@pytest.mark.parametrize("out", ["--recover", "a boot", "--force"])
def test_a_rollback_that_cannot_rename_a_file_is_stuck_left_alone_and_has_ways_out(lab, out):
    """As when somebody makes a file immutable, or mounts something over it, while a patch fails."""
    held = lab.root / "var/lib/held"
    held.touch()
    hook(lab, "mv", '[[ ! -e /var/lib/held || "$*" != *backup/etc/cron.hourly/watch* ]] || exit 1')
    before = lab.state()
    run = lab.patch(bundles.broken())
    assert run.status == 1 and "rollback incomplete" in run.output, run
    status, asked = lab.status(), lab.systemctl_log()
    assert status["state"] == "stuck" and status["way_out"] in run.output, status
    again = lab.patch(bundles.new())
    assert again.status == 2 and status["way_out"] in again.output, again
    assert lab.systemctl_log() == asked, "a VM that is stuck is not touched again"
    if out == "--force":
        forced = lab.run("--recover", "--force")
        assert forced.status == 0 and "/.cloud-livepatch.kept-1" in forced.output, forced
        assert lab.status()["state"] == "forced"
        assert (lab.root / ".cloud-livepatch.kept-1/backup/etc/cron.hourly/watch").exists()
        assert differences(before, lab.state()) == ["etc/cron.hourly/watch"]
        held.unlink()
    else:
        assert lab.run("--recover").status == 1 and lab.status()["state"] == "stuck"
        held.unlink()
        assert (lab.run("--recover") if out == "--recover" else lab.recover_at_boot()).status == 0
        assert lab.status()["state"] == "rolled-back" and lab.state() == before
    assert lab.patch(bundles.new()).status == 0


def test_status_is_json_whatever_the_reason_holds(lab):
    (lab.root / ATTEMPT).mkdir(parents=True)
    (lab.root / ATTEMPT / "stuck").write_text('a "quoted" \\ reason\twith a tab\rand a line end\n')
    lab.land(bundles.new())
    assert (
        json.loads(lab.run("--status").stdout)["reason"] == 'a "quoted" \\ reason with a tab and a line end'
    )


def test_a_mount_below_an_owned_folder_is_refused_and_left_alone(stage):
    with stage.clone("consoleproxy") as lab:
        lab.land(bundles.new())
        process = lab.start(
            "-c",
            "mkdir '/usr/local/cloud/systemvm/a b'; mount -t tmpfs tmpfs '/usr/local/cloud/systemvm/a b';"
            f"echo kept >'/usr/local/cloud/systemvm/a b/file'; bash {SCRIPT}; echo $?;"
            "cat '/usr/local/cloud/systemvm/a b/file'",
        )
        stdout, stderr = process.communicate(timeout=60)
        assert stdout.decode().split() == ["2", "kept"], (stdout, stderr)
        assert b"something is mounted at /usr/local/cloud/systemvm/a b" in stderr


# What is mounted while services restart: over a dropped folder that waits to be removed, in a folder that is new.
MEANWHILE = {
    "new": (
        "/.cloud-livepatch/moved/opt/cloud/old/data",
        "0",
        "/.cloud-livepatch.kept-1/moved/opt/cloud/old/data",
    ),
    "broken": ("/etc/cloud.d/more", "1", "/etc/cloud.d/more"),
}


@pytest.mark.parametrize("story", MEANWHILE)
def test_what_is_mounted_meanwhile_is_not_emptied(lab, story):
    folder, status, kept = MEANWHILE[story]
    before = lab.state()
    lab.land(bundles.new() if story == "new" else bundles.broken())
    mount = f"mkdir -p {folder}; mount -t tmpfs tmpfs {folder}; echo kept >{folder}/file"
    # Services are asked side by side: the first of them.
    hook(lab, "systemctl", f"[[ $1 != re@(start|load) ]] || ! mkdir /run/lab/once || {{ {mount}; }}")
    process = lab.start(
        "-c",
        f"bash {SCRIPT}; echo $?; cat {kept}/file; umount {kept}; bash /{JOURNAL}/patch-sysvms.sh --recover; echo $?",
    )
    stdout, stderr = process.communicate(timeout=60)
    said = [line for line in stdout.decode().split() if not line.startswith("version")]
    assert said == [status, "kept", "0"], (stdout, stderr)
    if story == "broken":
        assert b"rollback incomplete" in stderr and lab.state() == before, stderr


def test_a_child_that_hangs_ends_within_the_limit(lab):
    """Also in the checks before anything is written; the answer comes, and the VM is old."""
    before = lab.state()
    hook(lab, "install", "exec sleep 600")
    run = lab.patch(bundles.new(), LIVEPATCH_LIMIT="1")
    assert run.status == 1 and "time limit ran out, could not stage what is committed" in run.output, run
    assert lab.state() == before


def test_slow_checks_end_within_the_limit(lab):
    """Each question is answered in its time, all together are not."""
    before = lab.state()
    for name in ("sha512sum", "sha256sum", "tar"):
        hook(lab, name, "sleep 3")
    run = lab.patch(bundles.new(), LIVEPATCH_LIMIT="1")
    assert run.status == 1 and "nothing changed, the time limit ran out" in run.output, run
    assert lab.state() == before


@pytest.mark.parametrize("phase", ["commit", "undone"])
def test_a_journal_whose_removal_was_cut_off_is_removed(lab, phase):
    """Any of its files may be gone by then."""
    before = lab.state()
    _stop_in(lab, bundles.new() if phase == "commit" else bundles.broken(), "remove the journal")
    (lab.root / ATTEMPT / "lists").unlink()
    run = lab.run("--recover")
    assert run.status == 0 and not (lab.root / ATTEMPT).exists(), run
    assert phase == "commit" or lab.state() == before


def test_hanging_question_is_named_in_the_answer(lab):
    before = lab.state()
    hook(lab, "sha512sum", "exec sleep 600")
    run = lab.patch(bundles.new(), LIVEPATCH_SERVICE_LIMIT="1")
    assert run.status == 1 and "time limit ran out, could not read every file" in run.output, run
    assert lab.state() == before
