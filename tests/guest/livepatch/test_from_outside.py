"""What an attack from outside the walks has found: programs in groups of their own, writers, mounts and links."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from bundle.seal.signer import key_id
from tests.guest.livepatch import bundles, plays_packages, walk
from tests.guest.livepatch import plays_refusals as refusals
from tests.guest.livepatch.folder_vm import AGENT, JOURNAL
from tests.guest.livepatch.states import differences
from tests.guest.livepatch.test_foreign import _boot_takes
from tests.guest.livepatch.test_trust import _keys
from tests.guest.livepatch.test_ways_out import ATTEMPT, SCRIPT, hook

LOG = "var/log/livepatchsystemvm.log"
KEPT = "/usr/share/cloud/cloud-scripts.tgz"
# Runs the patch beside, and kills its worker once a file is there or a line is in one.
KILL = f"""bash {SCRIPT} & front=$!
until %s; do sleep 0.02; done; sleep 0.2
read -r worker </run/cloud-livepatch.lock; kill -KILL $worker; wait $front; echo "exit $?"
"""


def _killed(lab, bundle, until, **environment):
    lab.land(bundle)
    process = lab.start("-c", KILL % until, **environment)
    stdout, stderr = process.communicate(timeout=120)
    return stdout.decode(), stderr.decode()


def _once_prepared(lab, folder, change):
    """Let somebody change what is in a folder when the patch first writes the file systems out: all is staged then."""
    once = f"[[ $1 != -f || -e /run/lab/once ]] || {{ : >/run/lab/once; (cd {folder} && {change}); }}"
    hook(lab, "sync", once)


def test_a_worker_that_dies_while_a_service_restarts_leaves_the_old(lab):
    """The program that restarts it is in a group of its own; it lived on, and held the lock for too long."""
    before = lab.state()
    (lab.unit("dnsmasq") / "delay").write_text("14\n")
    stdout, stderr = _killed(lab, bundles.new(), "grep -qs '^restart dnsmasq' /run/lab/systemctl.log")
    assert "exit 1" in stdout and "was rolled back" in stderr, (stdout, stderr)
    assert differences(before, lab.state()) == []
    assert lab.status()["state"] == "rolled-back"


def test_a_worker_that_dies_while_dpkg_works_takes_dpkg_along(stage):
    """Else the VM is told to be rolled back, and dpkg goes on."""
    with stage.clone("secstorage") as lab:
        plays_packages._debian_11(lab)
        before = lab.state()
        hook(lab, "dpkg", '[[ "$*" != *--remove* ]] || { : >/run/lab/dpkg; sleep 3; }')
        bundle = bundles.make(plays_packages._content(broken=False))
        stdout, stderr = _killed(lab, bundle, "[[ -e /run/lab/dpkg ]]")
        assert "exit 1" in stdout and "was rolled back" in stderr, (stdout, stderr)
        lab.start("-c", "sleep 4").communicate(timeout=30)
        assert differences(before, lab.state()) == []
        assert plays_packages._installed(lab) == {"lab-old-python"}


def test_what_is_mounted_on_a_file_that_a_commit_renames_is_refused(lab):
    before = lab.state()
    lab.land(bundles.new())
    process = lab.start("-c", f'mount --bind {KEPT} {KEPT}; bash {SCRIPT}; echo "exit $?"')
    stdout, stderr = (text.decode() for text in process.communicate(timeout=60))
    assert "exit 2" in stdout and f"something is mounted at {KEPT}" in stderr, (stdout, stderr)
    assert differences(before, lab.state()) == []


def test_a_commit_that_cannot_finish_is_stuck_and_force_says_what_it_left(lab):
    (lab.root / "var/lib/held").touch()
    hook(lab, "mv", '[[ ! -e /var/lib/held || "$*" != *commit/usr/share* ]] || exit 1')
    run = lab.patch(bundles.new())
    assert (run.status, "not finished" in run.output) == (1, True), run
    assert lab.status()["state"] == "interrupted"
    again = lab.run("--recover")
    assert (again.status, "--force" in again.output) == (1, True), again
    told = lab.status()
    assert (told["state"], "--force" in told["way_out"]) == ("stuck", True), told
    forced = lab.run("--recover", "--force")
    assert forced.status == 0 and ".cloud-livepatch.kept-1" in forced.output, forced
    assert (lab.root / f".cloud-livepatch.kept-1/commit{KEPT}").is_file()
    assert lab.status()["state"] == "forced"
    (lab.root / "var/lib/held").unlink()
    run = lab.patch(bundles.new())
    assert run.output == f"version:{bundles.new().signature} \n", run


def test_a_commit_that_was_stuck_is_finished_once_that_is_mended(lab, stage):
    (lab.root / "var/lib/held").touch()
    hook(lab, "mv", '[[ ! -e /var/lib/held || "$*" != *commit/usr/share* ]] || exit 1')
    lab.patch(bundles.new())
    lab.run("--recover")
    (lab.root / "var/lib/held").unlink()
    assert lab.run("--recover").status == 0
    assert lab.status()["state"] == "committed"
    assert differences(stage.new["router"], lab.state(times=False)) == []


def test_a_journal_that_cannot_be_removed_holds_nothing_up(lab):
    hook(lab, "rm", '[[ "$*" != *"cloud-livepatch/attempt"* ]] || exit 1')
    for number in (1, 2):
        run = lab.patch(bundles.new())
        assert run.output == f"version:{bundles.new().signature} \n", run
        assert not (lab.root / ATTEMPT).exists()
        assert (lab.root / f"{ATTEMPT}.kept-{number}").is_dir()


@pytest.mark.parametrize("place", ["attempt", "landed"])
def test_a_mount_in_a_folder_of_ours_is_not_emptied(lab, place):
    lab.land(bundles.new())
    process = lab.start(
        "-c",
        f"cd /{JOURNAL}; mkdir -p {place}/in; mount -t tmpfs none {place}/in; echo kept >{place}/in/file; "
        f"bash {SCRIPT}; cat /{JOURNAL}/{place}*/in/file",
    )
    stdout, stderr = process.communicate(timeout=60)
    assert b"kept" in stdout, (stdout, stderr)


@pytest.mark.parametrize("arguments", [(), ("--strict",)])
def test_an_agent_folder_that_is_a_link_is_refused(stage, arguments):
    """What this VM keeps behind it, its key above all, was lost without a word."""
    with stage.clone("consoleproxy") as lab:
        shutil.move(lab.root / AGENT, lab.root / "opt/agent")
        (lab.root / AGENT).symlink_to("/opt/agent")
        before = lab.state()
        run = lab.patch(bundles.new(), *arguments)
        assert (run.status, f"/{AGENT} is a link" in run.output) == (2, True), run
        assert differences(before, lab.state()) == []


def test_a_link_where_the_release_has_a_folder_is_refused_by_name(stage):
    with stage.clone("consoleproxy") as lab:
        shutil.move(lab.root / AGENT / "conf", lab.root / "opt/conf")
        (lab.root / AGENT / "conf").symlink_to("/opt/conf")
        before = lab.state()
        run = lab.patch(bundles.new())
        assert (run.status, f"/{AGENT}/conf is a link" in run.output) == (2, True), run
        assert differences(before, lab.state()) == []


def test_the_latest_version_of_a_file_of_the_agent_is_kept_beside(stage):
    with stage.clone("consoleproxy") as lab:
        script = lab.root / AGENT / "_run.sh"
        for text in ("first\n", "second\n"):
            script.write_text(text)
            run = lab.patch(bundles.new())
            assert run.status == 0, run
            assert script.with_name("_run.sh.dist-old").read_text() == text
            assert script.read_bytes() == bundles.new_content().agent["_run.sh"][0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("echo other >conf/cloud.jks", "conf/cloud.jks was changed"),
        ("echo more=1 >>conf/agent.properties", "conf/agent.properties was changed"),
        ("echo new >conf/new", "conf/new is new"),
    ],
)
def test_what_is_written_to_the_agents_own_files_meanwhile_is_not_lost(stage, change, told):
    with stage.clone("consoleproxy") as lab:
        _once_prepared(lab, f"/{AGENT}", change)
        run = lab.patch(bundles.new())
        assert (run.status, told in run.output) == (1, True), run
        assert lab.status()["state"] == "rolled-back"
        name = told.split()[0]
        assert change.split()[1] in (lab.root / AGENT / name).read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("echo more >>configure.py", "configure.py was changed"),
        ("cp configure.py x; echo more >>x; mv x configure.py", "configure.py was replaced or removed"),
        ("echo more >added.sh", "added.sh is new"),
    ],
)
def test_what_is_written_to_files_of_the_release_meanwhile_is_not_lost(lab, change, told):
    _once_prepared(lab, "/opt/cloud/bin", change)
    run = lab.patch(bundles.new())
    assert (run.status, told in run.output) == (1, True), run
    path = told.split()[0]
    assert "more" in (lab.root / "opt/cloud/bin" / path).read_text()
    run = lab.patch(bundles.new())
    assert run.status == 0, run
    assert "more" in (lab.root / "opt/cloud/bin" / f"{path}.dist-old").read_text()


def test_force_does_not_take_a_service_that_fails_for_one_that_is_back(lab):
    (lab.root / "var/lib/held").touch()
    hook(lab, "mv", '[[ ! -e /var/lib/held || "$*" != *backup/etc/cron.hourly/watch* ]] || exit 1')
    assert lab.patch(bundles.broken()).status == 1
    assert lab.status()["state"] == "stuck"
    (lab.root / "var/lib/held").unlink()
    for name, text in (("fails", "99"), ("reload", "no"), ("delay", "2")):
        (lab.unit("haproxy") / name).write_text(f"{text}\n")
    run = lab.run("--recover", "--force")
    assert run.status == 0 and "forced" in run.output and "bring" in run.output, run
    assert lab.status()["state"] == "forced"


def test_a_service_that_never_comes_back_ends_stuck_and_is_left_alone(lab):
    (lab.unit("dnsmasq") / "delay").write_text("30\n")
    run = lab.patch(bundles.new(), LIVEPATCH_SERVICE_LIMIT="2")
    assert run.status == 1, run
    told = lab.status()
    assert (told["state"], "--force" in told["way_out"]) == ("stuck", True), told
    count = lab.systemctl_log().count("restart dnsmasq.service")
    assert lab.patch(bundles.new(), LIVEPATCH_SERVICE_LIMIT="2").status == 2
    assert lab.systemctl_log().count("restart dnsmasq.service") == count


def test_a_rollback_that_hangs_each_time_ends_stuck_until_that_is_mended(lab):
    (lab.root / "var/lib/held").touch()
    hook(lab, "mv", '[[ ! -e /var/lib/held || "$*" != *backup/etc/cron.hourly/watch* ]] || exec sleep 1000')
    before = lab.state()
    run = lab.patch(bundles.broken(), LIVEPATCH_SERVICE_LIMIT="3")
    assert run.status == 1, run
    assert lab.status()["state"] == "stuck"
    assert lab.patch(bundles.new()).status == 2
    (lab.root / "var/lib/held").unlink()
    assert lab.run("--recover").status == 0
    assert lab.status()["state"] == "rolled-back"
    assert [path for path in differences(before, lab.state()) if path != "var/lib/held"] == []


def test_the_ports_of_a_service_that_was_on_its_way_are_watched(lab):
    (lab.unit("dnsmasq") / "busy").write_text("5\n")
    (lab.unit("dnsmasq") / "shuts").write_text("/run/lab/shut\n")
    (lab.root / "run/lab/shut").touch()
    hook(
        lab,
        "systemctl",
        "[[ $1 != show || -e /run/lab/restarted ]] || "
        '! grep -qs "^[01]$" /run/lab/units/dnsmasq.service/busy || rm -f /run/lab/shut; '
        "[[ $1 != restart || $2 != dnsmasq* ]] || : >/run/lab/shut",
    )
    run = lab.patch(bundles.new(), LIVEPATCH_SERVICE_LIMIT="3")
    assert (run.status, "no longer listens" in run.output) == (1, True), run


def test_a_service_whose_processes_nobody_can_tell_is_no_service_without_ports(lab):
    (lab.root / "sys/fs/cgroup/system.slice/dnsmasq.service/cgroup.procs").unlink()
    run = lab.patch(bundles.new())
    assert (run.status, "which processes service dnsmasq has" in run.output) == (1, True), run
    assert "nothing changed" in run.output


def test_a_unit_of_the_recovery_that_is_masked_is_refused(lab):
    unit = lab.root / "etc/systemd/system/cloud-livepatch-recover.service"
    unit.unlink(missing_ok=True)
    unit.symlink_to("/dev/null")
    run = lab.patch(bundles.new())
    assert (run.status, "is a link" in run.output) == (2, True), run


def test_a_run_that_nobody_watches_is_ended_once_it_is_long_overdue(lab):
    hook(lab, "install", "[[ -e /run/lab/once ]] || { : >/run/lab/once; exec sleep 1000; }")
    lab.land(bundles.new())
    process = lab.start(
        "-c",
        f"(exec bash {SCRIPT}) & front=$!; until [[ -e /run/lab/once ]]; do sleep 0.02; done; kill -KILL $front; "
        f'patch() {{ bash /{JOURNAL}/patch-sysvms.sh; echo "$1 $?"; }}; patch early; sleep 10; '
        "LIVEPATCH_LIMIT=-2 patch overdue; patch late",
    )
    stdout, stderr = process.communicate(timeout=100)
    assert b"early 2" in stdout and b"late 0" in stdout, (stdout, stderr)
    assert stderr.count(b"another run is active") == 1, stderr


@pytest.mark.parametrize("path", ["run/cloud-livepatch.lock", "run/cloud/rules.lock"])
def test_a_lock_is_open_to_root_only_also_one_that_was_there(lab, path):
    lock = lab.root / path
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch(0o644)
    lock.chmod(0o644)
    assert lab.patch(bundles.new()).status == 0
    assert lock.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("path", ["root/.ssh", "var/lib", "var/cache/cloud", "etc/ssh"])
def test_a_file_where_others_need_a_folder_is_refused(lab, path):
    content = bundles.new_content()
    scripts = {name: row for name, row in content.scripts.items() if not name.startswith(f"{path}/")}
    bundle = bundles.make(replace(content, scripts=scripts | {path: (b"x\n", 0o644)}))
    before = lab.state()
    run = lab.patch(bundle)
    assert (run.status, f"holds {path}, which lies outside" in run.output) == (2, True), run
    assert differences(before, lab.state()) == []


def test_a_long_log_of_before_is_not_cut(lab):
    log = lab.root / LOG
    log.write_text("old\n" * 2_200_000)
    (lab.unit("dnsmasq") / "delay").write_text("2\n")
    assert lab.patch(bundles.new()).status == 0
    assert log.read_text().startswith("old\nold\n")


def _lies_about_its_key(key, other):
    return refusals.signed(replace(bundles.new_content(), key=key_id(other.public_key())), key)


def _says_who_is_trusted(key, other):
    content = bundles.new_content()
    planted = {"etc/cloudstack/livepatch-trust.pem": (refusals._pem(other).encode(), 0o644)}
    return refusals.signed(replace(content, scripts=content.scripts | planted), key)


def _lets_somebody_in(key, _other):
    content = bundles.new_content()
    return refusals.signed(
        replace(content, scripts=content.scripts | {"root/.ssh/authorized_keys": (b"x\n", 0o600)}), key
    )


def _goes_outside(key, _other):
    content = bundles.new_content()
    return refusals.signed(replace(content, scripts=content.scripts | {"usr/bin/evil": (b"x\n", 0o755)}), key)


@pytest.mark.parametrize(
    "bundle", [_lies_about_its_key, _says_who_is_trusted, _lets_somebody_in, _goes_outside]
)
def test_a_boot_refuses_what_a_patch_refuses(lab, bundle):
    key, other = refusals._key(), refusals._key()
    _keys(lab, key)
    made = bundle(key, other)
    assert not _boot_takes(lab, made)
    assert lab.patch(made).status == 2
    assert _boot_takes(lab, refusals.signed(bundles.new_content(), key))


def test_the_walk_asks_whether_a_boot_would_recover(lab):
    """It took the phase of a sealed file for another one, and asked nothing."""
    journal = lab.root / ATTEMPT
    journal.mkdir(parents=True)
    (journal / "phase").write_text("restart\nsha256 " + "0" * 64 + "\n")
    assert walk._needs_unit(lab)
