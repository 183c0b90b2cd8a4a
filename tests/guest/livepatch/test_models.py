"""What each line of the script is there for, where no scenario of the table asks for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import differences
from tests.guest.livepatch.test_ways_out import hook

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
    hook(lab, "tar", '[[ "$*" != *-dvzf* ]] || kill -KILL $$')
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
