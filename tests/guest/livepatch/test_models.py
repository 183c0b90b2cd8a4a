"""What each line of the script is there for, where no scenario of the table asks for it."""

from __future__ import annotations

import os
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.guest.livepatch import bundles, plays_packages
from tests.guest.livepatch.folder_vm import AGENT
from tests.guest.livepatch.states import differences, mark
from tests.guest.livepatch.test_ways_out import hook
from tests.guest.livepatch.walk import ARCHIVES

SCRIPT = "/var/cache/cloud/patch-sysvms.sh"


def test_systemd_that_leaves_a_service_out_has_not_answered(lab):
    hook(lab, "systemctl", '[[ $1 != show ]] || { /usr/local/sbin/systemctl.real "$@" | head -n 5; exit; }')
    run = lab.patch(bundles.new())
    assert run.status == 1 and "systemd did not answer for" in run.output, run


def test_ports_without_an_answer_are_not_shut_ports(lab):
    hook(lab, "ss", "exit 0")
    run = lab.patch(bundles.new())
    assert run.status == 1 and "cannot ask for the open ports" in run.output, run


def test_a_listing_that_was_killed_is_not_an_empty_archive(lab):
    hook(lab, "tar", '[[ "$*" != *-tvzf* ]] || kill -KILL $$')
    run = lab.patch(bundles.new())
    assert run.status == 1 and "cannot read cloud-scripts.tgz" in run.output, run


def test_a_comparison_that_was_killed_is_not_taken_for_half_an_answer(lab):
    (lab.root / "var/lib/cloud-livepatch/installed.manifest").unlink()
    hook(lab, "tar", '[[ "$*" != *-dvzf* ]] || { /usr/bin/tar "$@" | head -n 3; kill -KILL $$; }')
    run = lab.patch(bundles.new())
    assert run.status == 1 and "cannot compare the installed archive" in run.output, run


def test_the_time_limit_of_the_run_rolls_back_by_itself(lab):
    before = lab.state()
    (lab.unit("dnsmasq") / "delay").write_text("2\n")
    run = lab.patch(bundles.new(), LIVEPATCH_LIMIT="1")
    assert run.status == 1 and "the time limit of 1 seconds ran out" in run.output, run
    assert lab.state() == before


def test_a_comparison_that_names_no_member_is_no_answer(lab):
    """tar's status 1 says that files differ; a tar that failed at once says the same, and names nothing."""
    (lab.root / "var/lib/cloud-livepatch/installed.manifest").unlink()
    hook(lab, "tar", '[[ "$*" != *-dvzf* ]] || exit 1')
    run = lab.patch(bundles.new())
    assert run.status == 1 and "cannot compare the installed archive" in run.output, run


@pytest.mark.parametrize("phase", ["commit", "undone"])
def test_a_rename_that_was_killed_after_it_took_effect_took_effect(lab, stage, phase):
    """The journal says so already: to go back now would leave both."""
    before = lab.state()
    hook(lab, "mv", f'[[ "$*" != *next.{phase}* ]] || {{ /usr/bin/mv "$@"; kill -KILL $$; }}')
    run = lab.patch(bundles.new() if phase == "commit" else bundles.broken())
    if phase == "commit":
        assert run.output == f"version:{bundles.new().signature} \n", run
        assert differences(stage.new["router"], lab.state(times=False)) == []
    else:
        assert run.status == 1 and "rolled back" in run.output, run
        assert lab.state() == before


def test_the_worker_has_a_session_of_its_own(lab):
    lab.land(bundles.new())
    (lab.unit("dnsmasq") / "delay").write_text("0.3\n")
    command = (
        f"bash {SCRIPT} >/run/lab/out & until [[ -s /run/cloud-livepatch.lock ]]; do sleep 0.01; done;"
        "read -r worker </run/cloud-livepatch.lock; cut -d' ' -f1,6 /proc/$worker/stat; wait"
    )
    stdout, stderr = lab.start("-c", command).communicate(timeout=60)
    worker, session = stdout.split()
    assert worker == session, (stdout, stderr)


def test_systemd_reads_the_old_units_after_a_rollback(lab):
    assert lab.patch(bundles.broken()).status == 1
    assert lab.systemctl_log().count("daemon-reload ") == 2


def test_no_reason_has_a_colon(lab):
    content = bundles.new_content()
    bundle = bundles.make(replace(content, scripts=content.scripts | {"etc/a:b": (b"new\n", 0o644)}))
    (lab.root / "etc/a:b").write_text("the operator's\n")
    run = lab.patch(bundle, "--strict")
    assert run.status == 2 and "/etc/a b was changed" in run.output and ":" not in run.output, run


def _attributes(path):
    """Return the names of a file's attributes, and whether user 1234 may read it by its ACL."""
    acl = struct.pack("<HHI", 0x02, 4, 1234)
    return sorted(os.listxattr(path)), acl in os.getxattr(path, "system.posix_acl_access")


def test_a_file_that_is_replaced_keeps_its_acl_and_attributes(stage):
    """Its mode is that of the release, as the mask of the ACL."""
    expected = (["system.posix_acl_access", "trusted.note"], True)
    content = bundles.new_content()
    other_mode = replace(content, scripts=content.scripts | {"etc/cron.hourly/watch": (b"new\n", 0o750)})
    with stage.clone("consoleproxy") as lab:
        mark(lab.root / "etc/cron.hourly/watch")
        assert lab.patch(bundles.make(other_mode)).status == 0
        for path in ("etc/haproxy/conf.d/00-cloud.cfg", "etc/cron.hourly/watch", f"{AGENT}/_run.sh"):
            assert _attributes(lab.root / path) == expected, path
        assert (lab.root / "etc/cron.hourly/watch").stat().st_mode & 0o7777 == 0o750
        assert (lab.root / f"{AGENT}/_run.sh").stat().st_mode & 0o7777 == 0o755
        assert lab.read("etc/haproxy/conf.d/00-cloud.cfg") == "global of 4.22\n"
        assert os.listxattr(lab.root / "opt/cloud/bin/added.sh") == []


def test_an_operators_version_that_is_kept_beside_has_its_acl_and_attributes(stage):
    with stage.clone("consoleproxy") as lab:
        for path in ("etc/haproxy/conf.d/00-cloud.cfg", f"{AGENT}/conf/log4j-cloud.xml"):
            (lab.root / path).write_text("an operator's\n")
            mark(lab.root / path)
        assert lab.patch(bundles.new()).status == 0
        for path in ("etc/haproxy/conf.d/00-cloud.cfg", f"{AGENT}/conf/log4j-cloud.xml"):
            assert _attributes(lab.root / f"{path}.dist-old")[1], path
            assert lab.read(f"{path}.dist-old") == "an operator's\n"


def test_a_file_with_two_names_is_one_file_after_a_rollback(lab):
    """The backup is a further name of the old file, no copy of it."""
    os.link(lab.root / "etc/haproxy/conf.d/00-cloud.cfg", lab.root / "root/second-name")
    assert lab.patch(bundles.broken()).status == 1
    assert (lab.root / "root/second-name").samefile(lab.root / "etc/haproxy/conf.d/00-cloud.cfg")


def test_a_clock_that_is_set_while_a_patch_runs_ends_nothing(lab, tmp_path):
    """Time is measured since boot."""
    library = lab.root / "run/lab/clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source], check=True)
    shown = lab.start("-c", "for i in {1..12}; do printf '%(%s)T ' -1; done", LD_PRELOAD="/run/lab/clock.so")
    seconds = [int(word) for word in shown.communicate(timeout=60)[0].split()]
    assert seconds[-1] - seconds[0] >= 3600, "the clock of the lab was not set"
    run = lab.patch(bundles.new(), LD_PRELOAD="/run/lab/clock.so")
    assert run.output == f"version:{bundles.new().signature} \n", run


def test_every_file_system_of_a_patch_is_written_out(stage):
    """What is asked for is safe, and nothing else: a power cut right after success takes nothing back."""
    stage.prepare("router")
    for kind in ("lost", "torn"):
        with stage.clone("router") as lab:
            lab.split_var = True
            lab.power_on()
            assert lab.patch(bundles.new()).status == 0
            lab.power_cut(kind)
            lab.recover_at_boot()
            assert differences(stage.new["router"], lab.state(times=False)) == []


def test_the_model_of_a_power_cut_saves_only_what_is_asked_for(stage):
    with stage.clone("router") as lab:
        lab.split_var = True
        lab.power_on()
        for folder in ("var", "opt"):
            (lab.root / folder / "note").write_text("new")
        lab.start("/usr/local/sbin/sync", "-f", "/var/lib").communicate(timeout=60)
        lab.power_cut("lost")
        assert (lab.root / "var/note").exists() and not (lab.root / "opt/note").exists()


def test_a_refusal_for_rules_leaves_nothing_that_a_boot_would_install(lab):
    lab.land(bundles.new())
    command = f"mkdir -p /run/cloud; exec 8>/run/cloud/rules.lock; flock 8; bash {SCRIPT} 8>&-"
    process = lab.start("-c", command, LIVEPATCH_RULES_LIMIT="0")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2 and b"rules are being applied" in stderr, (stdout, stderr)
    assert [path for path in ARCHIVES if (lab.root / path).exists()] == []


@pytest.mark.parametrize("program", ["mkdir", "mv"])
def test_archives_that_cannot_be_put_aside_are_removed(lab, program):
    """As when nothing has run: a boot finds none, whatever hinders the run from taking them."""
    (lab.root / "var/lib/cloud-livepatch/landed").mkdir()
    hook(lab, program, '[[ "$*" != */cloud-livepatch/landed* ]] || exit 1')
    run = lab.patch(bundles.new())
    assert run.status == 1 and "cannot put the archives aside" in run.output, run
    assert [path for path in ARCHIVES if (lab.root / path).exists()] == []


def test_a_package_that_was_unpacked_is_proven_once_more(stage):
    """It is unpacked a second time for dpkg, after the archive was proven."""
    with stage.clone("secstorage") as lab:
        plays_packages._debian_11(lab)
        hook(
            lab,
            "unzip",
            '[[ "$*" != *-j* ]] || { /usr/bin/unzip "$@"; echo >>"${@: -1}/lab-python_1_all.deb"; exit; }',
        )
        before = lab.state()
        run = lab.patch(bundles.make(plays_packages._content(broken=False)))
        assert run.status == 1 and "cannot stage the packages" in run.output, run
        assert lab.state() == before


@pytest.mark.parametrize(
    ("program", "when", "told"),
    [
        ("unzip", "-p*packages.ini", "cannot read packages/packages.ini"),
        ("dpkg-query", "-W*lab-python", "cannot look for the package lab-python"),
        ("dpkg", "--audit", "cannot audit the packages"),
        ("dpkg-deb", "--fsys-tarfile*", "cannot list lab-python_1_all.deb"),
        ("dpkg", "-L*", "cannot list the files of lab-old-python"),
    ],
)
@pytest.mark.parametrize("how", ["exit 2", "kill -KILL $$"])
def test_a_program_of_packages_that_did_not_tell_has_not_answered(stage, program, when, told, how):
    """What was seen: an audit that failed was taken for one that found nothing."""
    with stage.clone("secstorage") as lab:
        plays_packages._debian_11(lab)
        hook(lab, program, f'[[ "$*" != {when} ]] || {how}')
        before = lab.state()
        run = lab.patch(bundles.make(plays_packages._content(broken=False)))
        assert run.status == 1 and told in run.output and "nothing changed" in run.output, run
        assert lab.state() == before


@pytest.mark.parametrize("program", ["install", "unzip"])
def test_what_is_staged_is_proven(stage, program):
    with stage.clone("consoleproxy") as lab:
        target = '"${@: -1}"' if program == "install" else '"${@: -1}/common.jar"'
        hook(
            lab,
            program,
            f'[[ "$*" == *-p* || $1 == -l ]] || {{ /usr/bin/{program} "$@"; head -c 512 /dev/zero >>{target}; exit; }}',
        )
        before = lab.state()
        run = lab.patch(bundles.new())
        assert run.status == 1 and "nothing changed" in run.output, run
        assert lab.state() == before


def test_a_service_that_has_ended_before_the_first_look_is_named(lab):
    (lab.unit("dnsmasq") / "flaps").write_text("0\n")
    run = lab.patch(bundles.new(), LIVEPATCH_SERVICE_LIMIT="1")
    assert run.status == 1 and "service dnsmasq is failed after the patch" in run.output, run


def test_the_staging_is_closed_to_others(lab):
    lab.patch(bundles.new(), LIVEPATCH_CRASH_AT="20")
    for part in ("stage", "backup"):
        assert (lab.root / ".cloud-livepatch" / part).stat().st_mode & 0o777 == 0o700


def test_the_new_state_is_proven_after_the_services_came_up(lab):
    before = lab.state()
    hook(
        lab,
        "systemctl",
        "[[ $1 != restart || -e /run/lab/once ]] || echo else | tee /run/lab/once >/opt/cloud/bin/added.sh",
    )
    run = lab.patch(bundles.new())
    assert run.status == 1 and "/opt/cloud/bin/added.sh is not what the bundle brought" in run.output, run
    assert lab.state() == before
