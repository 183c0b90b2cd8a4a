"""What belongs to somebody else: an operator's files and links, other people's archives, locks and keys."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.guest.livepatch import bundles, plays_refusals
from tests.guest.livepatch.folder_vm import AGENT, JOURNAL, LANDING
from tests.guest.livepatch.states import differences

SETUP = Path(__file__).resolve().parents[3] / "systemvm/debian/opt/cloud/bin/setup"
ARCHIVES = LANDING[:2]
LOG = "var/log/livepatchsystemvm.log"


def _landed(lab):
    return [name for name in ARCHIVES if (lab.root / "var/cache/cloud" / name).exists()]


# -- the landing folder and the boot -------------------------------------------------------------------------------


def test_no_boot_finds_what_a_run_rolled_back_failed_or_died_with(stage):
    """Boot installs whatever lies in the landing folder, unchecked where the template is an old one."""
    with stage.clone("router") as lab:
        assert lab.patch(bundles.broken()).status == 1
        assert _landed(lab) == []
    with stage.clone("router") as lab:
        (lab.root / "usr/local/sbin/install").write_text("#!/bin/sh\nexit 1\n")
        (lab.root / "usr/local/sbin/install").chmod(0o755)
        assert "nothing changed" in lab.patch(bundles.new()).output
        assert _landed(lab) == []
    for point in (2, 6, 20):
        with stage.clone("router") as lab:
            lab.patch(bundles.new(), LIVEPATCH_CRASH_AT=str(point))
            assert _landed(lab) == []


@pytest.mark.parametrize("how", ["TERM", "KILL"])
def test_no_boot_finds_what_a_run_ended_with_before_it_had_begun(lab, how):
    """Before its first effect nothing is put aside yet; the caller is told that the patch failed."""
    before = lab.state()
    run = lab.patch(
        bundles.new(), LIVEPATCH_CRASH_AT="1", LIVEPATCH_CRASH_SIGNAL=how, LIVEPATCH_CRASH_WHOLE=""
    )
    assert run.status == 1 and "nothing changed" in run.output, run
    assert _landed(lab) == [] and lab.state() == before


def test_no_boot_finds_what_was_uploaded_beside_a_run_that_is_active(lab):
    (lab.unit("dnsmasq") / "delay").write_text("0.5\n")
    lab.land(bundles.new())
    script = "/var/cache/cloud/patch-sysvms.sh"
    again = f"cp -r /run/lab/upload/. /var/cache/cloud/; bash {script}; echo $?; ls /var/cache/cloud"
    process = lab.start(
        "-c",
        f"cp -r /var/cache/cloud /run/lab/upload; bash {script} >/run/lab/first &"
        f"until [[ -e /run/lab/restarted ]]; do sleep 0.01; done; {again}; wait",
    )
    stdout, stderr = process.communicate(timeout=60)
    said = stdout.decode().split()
    assert said[0] == "2" and b"another run is active" in stderr, (stdout, stderr)
    assert "patch-sysvms.sh" in said and not set(ARCHIVES) & set(said)
    assert lab.read("run/lab/first") == f"version:{bundles.new().signature} \n"


def test_a_recovery_that_dies_leaves_what_was_uploaded_meanwhile(lab):
    lab.patch(bundles.new(), LIVEPATCH_CRASH_AT="30")
    lab.land(bundles.new())
    run = lab.run("--recover", LIVEPATCH_CRASH_AT="3", LIVEPATCH_CRASH_WHOLE="")
    assert run.status == 1 and "rolled back" in run.output, run
    assert _landed(lab) == list(ARCHIVES)


def test_a_refused_bundle_is_found_by_a_second_try_by_hand(lab):
    older = bundles.make(replace(bundles.new_content(), version="4.20.2.0", release="4.20"))
    assert lab.patch(older).status == 2
    assert _landed(lab) == []
    assert lab.run("--allow-downgrade").output == f"version:{older.signature} \n"
    assert not (lab.root / JOURNAL / "landed").exists()


def _boot_takes(lab, bundle):
    """Ask the boot's own check about a landed bundle."""
    target = lab.root / "opt/cloud/bin/setup"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("common.sh", "trust.sh"):
        shutil.copy(SETUP / name, target / name)
    (target / "trust.sh").write_text(
        (target / "trust.sh").read_text().replace("SCRIPT_WAIT=30", "SCRIPT_WAIT=0")
    )
    lab.land(bundle)
    code = (
        "set -eu; cd /opt/cloud/bin/setup; . ./common.sh; . ./trust.sh; mkdir -p /run/cloud; bundle_trusted"
    )
    process = lab.start("-c", code)
    process.communicate(timeout=60)
    return process.returncode == 0


def test_the_boot_trusts_nothing_that_a_live_patch_would_refuse(stage):
    key, other = plays_refusals._key(), plays_refusals._key()
    good = plays_refusals.signed(bundles.new_content(), key)
    foreign = plays_refusals.signed(bundles.new_content(), other)
    arm = plays_refusals.signed(replace(bundles.new_content(), architecture="arm64"), key)
    newer = plays_refusals.signed(replace(bundles.new_content(), minimum_template="4.99"), key)
    cases = {
        "signed": (good, True),
        "unsigned": (bundles.new(), False),
        "signed by another": (foreign, False),
        "another agent": (replace(good, agent=bundles.old().agent), False),
        "other scripts": (replace(good, scripts=bundles.broken().scripts), False),
        "a script of CloudStack": (replace(good, script="#!/bin/bash\nexit 0\n"), False),
        "another architecture": (arm, False),
        "a newer template": (newer, False),
    }
    with stage.clone("router") as lab:
        plays_refusals._trust(key)(lab)
        assert {name: _boot_takes(lab, bundle) for name, (bundle, _) in cases.items()} == {
            name: taken for name, (_, taken) in cases.items()
        }


def test_the_boot_takes_what_cloudstack_uploads_where_no_key_is_installed(lab):
    assert _boot_takes(lab, replace(bundles.new(), script="#!/bin/bash\nexit 0\n"))
    assert _boot_takes(lab, bundles.new())
    assert not _boot_takes(lab, bundles.make(replace(bundles.new_content(), architecture="arm64")))


def test_the_boot_fails_closed_for_a_key_that_is_a_dangling_link(lab):
    key = lab.root / "etc/cloudstack/livepatch-trust.pem"
    key.parent.mkdir(exist_ok=True)
    key.symlink_to("/nowhere")
    assert not _boot_takes(lab, bundles.new())


# -- an operator's links --------------------------------------------------------------------------------------------


def test_links_and_empty_folders_of_the_agent_stay(stage):
    with stage.clone("consoleproxy") as lab:
        conf = lab.root / AGENT / "conf"
        keep = lab.root / "root/keep"
        keep.mkdir()
        for name in ("cloud.jks", "agent.properties", "log4j-cloud.xml"):
            (conf / name).rename(keep / name)
            (conf / name).symlink_to(f"/root/keep/{name}")
        (lab.root / AGENT / "spool/empty").mkdir(parents=True)
        before = {path.name: path.read_bytes() for path in keep.iterdir()}
        assert lab.patch(bundles.new()).status == 0
        assert {path.name: path.read_bytes() for path in keep.iterdir()} == before
        for name in ("cloud.jks", "agent.properties", "log4j-cloud.xml.dist-old"):
            assert str((conf / name).readlink()) == f"/root/keep/{name.removesuffix('.dist-old')}"
        assert (conf / "log4j-cloud.xml").read_text() == "log4j of 4.22\n"
        assert (lab.root / AGENT / "spool/empty").is_dir()


def test_nothing_is_written_through_a_link_in_a_patch_that_fails(stage):
    with stage.clone("consoleproxy") as lab:
        properties = lab.root / AGENT / "conf/agent.properties"
        properties.rename(lab.root / "root/own.properties")
        properties.symlink_to("/root/own.properties")
        # A line is missing, so there is something to write.
        (lab.root / "root/own.properties").write_text("host=10.0.0.5\n")
        before = lab.state()
        assert lab.patch(bundles.broken()).status == 1
        assert differences(before, lab.state()) == []


def test_forty_thousand_files_in_the_agent_folder_are_no_obstacle(stage):
    with stage.clone("consoleproxy") as lab:
        folder = lab.root / AGENT / "conf" / ("long" * 12)
        folder.mkdir()
        for number in range(40_000):
            (folder / f"{number}").touch()
        assert lab.patch(bundles.new()).status == 0
        assert sum(1 for _ in folder.iterdir()) == 40_000


# -- other people's archives, keys and locks -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.SYMTYPE])
def test_an_archive_with_something_else_than_files_is_refused(lab, kind):
    """A pipe would be waited for as soon as it is opened."""
    data = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(bundles.new().scripts)) as source,
        tarfile.open(fileobj=data, mode="w:gz") as target,
    ):
        for member in source:
            if member.name == "opt/cloud/bin/added.sh":
                member.type, member.size, member.linkname = kind, 0, "x" if kind == tarfile.SYMTYPE else ""
            target.addfile(member, source.extractfile(member) if member.isreg() else None)
    scripts = data.getvalue()
    content = bundles.new_content()
    text = bundles.manifest(content, scripts, bundles.new().agent)
    spec = bundles.ScriptSpec(release=bundles.load().release("4.22"), guest_manifest=text)
    run = lab.patch(replace(bundles.new(), scripts=scripts, script=bundles.render(spec)))
    assert run.status == 2 and "which is neither file nor folder" in run.output, run


@pytest.mark.parametrize("beside", [False, True], ids=["in its place", "beside"])
def test_an_agent_with_something_else_than_files_is_never_opened(stage, beside):
    """A link can lead to what is read for ever; one that the manifest does not name would be installed."""
    data = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(bundles.new().agent)) as source,
        zipfile.ZipFile(data, mode="w") as target,
    ):
        rows = {info.filename: (info, source.read(info)) for info in source.infolist()}
        link = zipfile.ZipInfo("linked.jar" if beside else "common.jar")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        for info, content in (rows | {link.filename: (link, b"/dev/zero")}).values():
            target.writestr(info, content)
    agent = data.getvalue()
    text = bundles.manifest(bundles.new_content(), bundles.new().scripts, agent)
    spec = bundles.ScriptSpec(release=bundles.load().release("4.22"), guest_manifest=text)
    with stage.clone("consoleproxy") as lab:
        before = lab.state()
        run = lab.patch(
            replace(bundles.new(), agent=agent, script=bundles.render(spec)), LIVEPATCH_SERVICE_LIMIT="5"
        )
        assert run.status == 1 and "nothing changed, cannot unpack agent.zip" in run.output, run
        assert lab.state() == before


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_pipe_where_an_archive_was_landed_is_refused_and_never_opened(lab, name):
    lab.land(bundles.new())
    (lab.root / "var/cache/cloud" / name).unlink()
    os.mkfifo(lab.root / "var/cache/cloud" / name)
    run = lab.run(LIVEPATCH_SERVICE_LIMIT="2")
    assert run.status == 2 and f"{name} is missing or unreadable" in run.output, run
    assert _landed(lab) == []


@pytest.mark.parametrize(
    "path",
    [
        "etc/cloudstack/livepatch-trust.pem",
        "etc/cloudstack/livepatch-trust.pem/x",
        "etc/cloudstack/livepatch-trust/revoked",
        "etc/cloudstack",
    ],
)
def test_a_bundle_says_nothing_about_who_may_sign(lab, path):
    content = bundles.new_content()
    run = lab.patch(bundles.make(replace(content, scripts=content.scripts | {path: (b"key\n", 0o644)})))
    assert run.status == 2 and "outside the owned paths" in run.output, run


def test_a_key_that_is_a_dangling_link_is_a_key(lab):
    key = lab.root / "etc/cloudstack/livepatch-trust.pem"
    key.parent.mkdir(exist_ok=True)
    key.symlink_to("/nowhere")
    run = lab.patch(bundles.new())
    assert run.status == 2 and "unsigned" in run.output, run


@pytest.mark.parametrize("older", [False, True], ids=["a new lock", "one that was open to others"])
def test_nobody_but_root_can_hold_the_lock(lab, older):
    lock = lab.root / "run/cloud-livepatch.lock"
    if older:
        lock.touch()
        lock.chmod(0o644)
    lab.patch(bundles.new())
    assert lock.stat().st_mode & 0o777 == 0o600


def test_who_has_the_number_of_a_dead_run_by_now_is_left_alone(lab):
    """The lock is held by somebody else yet, so the run is refused."""
    lab.land(bundles.new())
    command = (
        "setsid sleep 60 & other=$!;"
        "until read -ra words </proc/$other/stat && [[ ${words[4]} == $other ]]; do :; done;"
        "until mapfile -d '' -t words </proc/$other/cmdline && [[ ${words[0]} == sleep ]]; do :; done;"
        "exec 8>>/run/cloud-livepatch.lock; flock 8; echo $other >&8;"
        "bash /var/cache/cloud/patch-sysvms.sh 8>&-; echo $?; kill -0 $other && echo alive"
    )
    stdout, stderr = lab.start("-c", command).communicate(timeout=60)
    assert stdout == b"2\nalive\n" and b"is still held" in stderr, (stdout, stderr)


def _beside_a_process_without_words(lab, feed):
    """Patch while the lock is held, and its number is that of a process without words, which reads a feed."""
    lab.land(bundles.new())
    command = (
        f"setsid bash -c \"exec -a '' bash\" < <({feed}) & other=$!;"
        "until [[ $(</proc/$other/comm) == bash && $(tr -d '\\0' </proc/$other/cmdline) == '' ]]"
        " && read -ra words </proc/$other/stat && [[ ${words[4]} == $other ]]; do :; done;"
        "exec 8>>/run/cloud-livepatch.lock; flock 8; echo $other >&8;"
        "bash /var/cache/cloud/patch-sysvms.sh 8>&-; echo $?; kill -0 $other && echo alive; kill -KILL -- -$other"
    )
    return lab.start("-c", command).communicate(timeout=60)


def test_a_process_in_exec_is_asked_again_before_it_counts_as_gone(lab):
    """For a moment it has no words: it may be a run, or somebody who has a dead run's number by now."""
    became_a_run = "sleep 0.5; echo 'exec bash -c \"sleep 60; :\" x --worker'; sleep 60"
    stdout, stderr = _beside_a_process_without_words(lab, became_a_run)
    assert stdout == b"2\nalive\n" and b"another run is active" in stderr, (stdout, stderr)


def test_a_process_that_has_no_words_at_all_is_left_alone(lab):
    stdout, stderr = _beside_a_process_without_words(lab, "sleep 60")
    assert stdout == b"2\nalive\n" and b"is still held" in stderr, (stdout, stderr)


def test_the_lock_of_a_run_that_is_dead_and_not_yet_buried_is_taken_over(lab):
    """Its child holds the lock yet, and whoever started it does not wait for it."""
    lab.land(bundles.new())
    holder = "exec 8>>/run/cloud-livepatch.lock; flock 8; echo $$ >&8; sleep 60 & exit"
    command = (
        f"(setsid bash -c '{holder}' & exec sleep 60) & "
        "until read -r dead </run/cloud-livepatch.lock && [[ $dead && $(</proc/$dead/stat) == *') Z '* ]]; do :; done;"
        "bash /var/cache/cloud/patch-sysvms.sh; echo $?; kill $!"
    )
    stdout, stderr = lab.start("-c", command).communicate(timeout=60)
    assert stdout.decode() == f"version:{bundles.new().signature} \n0\n", (stdout, stderr)


def test_a_posixly_correct_environment_changes_nothing(lab):
    run = lab.patch(bundles.new(), POSIXLY_CORRECT="1")
    assert run.output == f"version:{bundles.new().signature} \n", run


def test_the_log_has_a_cap(lab):
    (lab.root / "run/lab/noise").write_text("noise " * 2_000_000)
    run = lab.patch(bundles.new())
    assert run.status == 0, run
    assert (lab.root / LOG).stat().st_size < 30_000_000 and "the log was cut" in lab.read(LOG)


# -- services ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["activating", "reloading", "deactivating"])
def test_a_service_on_its_way_is_waited_for_and_then_refused(lab, state):
    (lab.unit("dnsmasq") / "state").write_text(f"{state}\n")
    before = lab.state()
    run = lab.patch(bundles.new(), LIVEPATCH_SERVICE_LIMIT="1")
    assert run.status == 2 and f"service dnsmasq is {state} since more than" in run.output, run
    assert lab.state() == before and "restart dnsmasq.service" not in lab.systemctl_log()


def test_a_service_that_ends_its_reload_is_renewed_like_the_others(lab):
    (lab.unit("haproxy") / "busy").write_text("3\n")
    assert lab.patch(bundles.new()).status == 0
    assert "reload haproxy.service" in lab.systemctl_log()


def test_the_log_holds_why_a_service_did_not_come_back(lab):
    """The service's own words: the rollback wipes the trace, and its unit checks quietly."""
    assert lab.patch(bundles.broken()).status == 1
    log = lab.read(LOG)
    assert "haproxy says, asked by haproxy -c -f" in log and "unknown keyword 'broken'" in log
    assert "haproxy says, asked by systemctl status" in log and "haproxy says, asked by journalctl" in log
    assert log.index("haproxy says") < log.index("clear the way back")


def test_the_log_tells_when_each_phase_began(lab):
    lab.patch(bundles.new())
    rows = [line.split(" ", 2) for line in lab.read(LOG).splitlines() if line.startswith("@")]
    times = [float(time[1:]) for time, _, _ in rows]
    assert times == sorted(times)
    entered = [label.removeprefix("enter phase ") for _, _, label in rows if label.startswith("enter phase ")]
    assert entered == ["apply", "restart", "commit"]
