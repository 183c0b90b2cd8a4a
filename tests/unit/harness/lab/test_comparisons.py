"""Comparisons beyond one patch: between two of them, over a reboot, and with a VM that is born new."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness import checks
from harness.checks import Outcome
from harness.lab import between, born, reviewed
from harness.lab.aftermath import reboot
from harness.observe.observation import Observation
from harness.observe.reviewed import OWNERS
from harness.observe.rules import RuleSet
from harness.plugin.planning import plan
from tests.unit.harness.simulated_patch import File, before, patched, world

FILTER = RuleSet("iptables", ("filter: :INPUT DROP", "filter: -A INPUT -p icmp -j ACCEPT"))


def since(now: Observation, console: str = "", **changes: Any) -> list[Outcome]:
    last = replace(world().case(), after=before().observation(), **changes)
    return between.outcomes(last, now, console)


def test_nothing_changed_between_two_patches_is_one_check_that_passed() -> None:
    found = since(before().observation())
    assert found == [Outcome("between.nothing-changed", "passed")]


def test_a_change_between_two_patches_is_told_as_such() -> None:
    later = before()
    later.files["/etc/cron.d/planted"] = File("* * * * * root true")
    later.sysctls["net/ipv4/ip_forward"] = "0"
    found = {row.name: row.reason for row in since(later.observation())}
    assert found.keys() == {"between.files.kept", "between.kernel.settings"}
    assert "/etc/cron.d/planted: added" in found["between.files.kept"]
    assert found["between.kernel.settings"].endswith("was 1 and is 0 (before the next patch)")


def test_what_a_vm_says_between_two_patches_is_read() -> None:
    later = before()
    later.journal.append({"PRIORITY": "3", "SYSLOG_IDENTIFIER": "x", "MESSAGE": "sorry"})
    found = {row.name: row.reason for row in since(later.observation(), "[ 9.0] x: segfault at 0 ip\n")}
    assert found == {
        "between.console.quiet": "segmentation fault: [ 9.0] x: segfault at 0 ip",
        "between.journal.quiet": "1 unreviewed line: x: sorry (error)",
    }
    assert [row.verdict for row in since(later.observation(), trouble=("^x: sorry",))] == ["passed"]


def test_a_patched_vm_that_is_like_one_born_new_differs_in_nothing() -> None:
    found = born.compare("router", patched().observation(), patched().observation(), "169.254.12.34")
    assert {row.verdict for row in found} <= {"passed", "skipped"}
    assert {row.name.partition(".")[0] for row in found} == {"born"}


def test_a_file_that_a_vm_born_new_does_not_have_is_told() -> None:
    new, other = patched(), patched()
    other.files["/opt/cloud/bin/gone.sh"] = File("old", 0o755)
    found = {
        row.name: row
        for row in born.compare("router", new.observation(), other.observation(), "169.254.12.34")
    }
    assert found["born.files.kept"].verdict == "failed"
    assert "not so in a VM that is born new: /opt/cloud/bin/gone.sh: added" in found["born.files.kept"].reason


def test_what_a_named_template_has_of_the_old_release_the_patched_one_need_not_have() -> None:
    new, other = patched(), patched()
    new.files["/root/dropped.sh"] = File("old", 0o755)
    for dropped, verdict in ((set(), "failed"), ({"/root/dropped.sh"}, "passed")):
        found = {
            row.name: row.verdict
            for row in born.compare(
                "router", new.observation(), other.observation(), "169.254.12.34", dropped
            )
        }
        assert found["born.files.kept"] == verdict


def test_a_login_key_of_another_command_line_is_told() -> None:
    new, other = patched(), patched()
    for moment, content in ((new, "key 1"), (other, "key 2")):
        moment.files["/root/.ssh/authorized_keys"] = File(content, 0o600)
    found = {
        row.name: row.reason
        for row in born.compare("router", new.observation(), other.observation(), "169.254.12.34")
    }
    assert "authorized_keys: content" in found["born.files.kept"]


def test_what_a_person_has_reviewed_is_no_difference() -> None:
    new, other = patched(), patched()
    for moment, content in ((new, "key 1"), (other, "key 2")):
        moment.files["/etc/ssh/ssh_host_ed25519_key"] = File(content, 0o600)
    found = {
        row.name: row
        for row in born.compare("router", new.observation(), other.observation(), "169.254.12.34")
    }
    assert found["born.files.kept"].verdict == "passed"


@pytest.mark.parametrize("comparison", reviewed.REVIEWED_LISTS)
def test_each_reviewed_difference_has_a_reason_and_a_check(comparison: reviewed.ReviewedList) -> None:
    rows = reviewed.rows(comparison)
    assert rows
    assert all(row.reason and row.check and row.line for row in rows)
    assert {row.owner for row in rows} <= set(OWNERS)


def test_what_is_reviewed_of_a_reboot_is_taken_out_of_a_check_and_noted() -> None:
    key, other = (
        "the kernel's setting net.ipv4.tcp_fastopen_key was a and is b",
        "the host name was r and is s",
    )
    seen = Outcome("kernel.settings", "failed", f"{key} (and 1 more)", (key, other))
    left = reviewed.without("reboot", seen)
    assert left == Outcome("kernel.settings", "failed", other, (other,))
    assert checks.excused([left]) == {"reboot kernel.settings  net\\.ipv4\\.tcp_fastopen_key was ": {key}}
    alone = reviewed.without("reboot", replace(seen, details=(key,)))
    assert (alone.verdict, alone.reason, alone.details) == ("passed", "", ())
    refreshed = Outcome("files.kept", "failed", "/root/health_checks_data.json: content a -> b")
    assert reviewed.without("reboot", refreshed).verdict == "passed"
    assert reviewed.without("born", refreshed).verdict == "failed"


def test_a_boot_that_lets_somebody_in_is_told() -> None:
    then = before().observation()
    then.rules["iptables"] = FILTER
    opened = RuleSet("iptables", (*FILTER.lines, "filter: -A INPUT -j ACCEPT"))
    now = {"iptables": opened, "ip6tables": RuleSet("ip6tables", None)}
    found = reboot.let_in(then, now)
    assert (found.verdict, found.details) == ("failed", ("filter: -A INPUT -j ACCEPT",))
    assert reboot.let_in(then, {**now, "iptables": FILTER}).verdict == "passed"


def test_a_policy_that_accepts_lets_everybody_in() -> None:
    then = before().observation()
    then.rules["iptables"] = FILTER
    now = {
        "iptables": RuleSet("iptables", ("filter: :INPUT ACCEPT",)),
        "ip6tables": RuleSet("ip6tables", None),
    }
    assert "filter: :INPUT ACCEPT" in reboot.let_in(then, now).reason


def test_every_row_of_a_comparison_is_of_a_check_that_is_made() -> None:
    for comparison, looks in (("born", born._LOOKS), ("reboot", reboot._LOOKS)):
        for row in reviewed.rows(comparison):
            assert {row.check, row.check.partition(".")[0]} & set(looks), row


def test_the_vm_that_is_born_new_has_a_name_of_its_own_beside_that_of_any_scenario() -> None:
    names = {row.id.removeprefix("router-from-4.21-") for row in plan(["--scenario=all"])}
    assert "born-new" in names
    assert born.NAME not in names
