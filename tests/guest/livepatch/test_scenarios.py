"""Every scenario of the table that a guest script decides, in the lab; and what the rival does in the same ones.

``--patch-script FILE`` plays those that any script can be judged by with that script, and nothing else.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.guest.livepatch import bundles, plays_content, plays_failures, plays_packages, plays_refusals
from tests.guest.livepatch.vm_factory import LEGACY, SCENARIOS, Scenario, VmFactory

PLAYS = (plays_content, plays_failures, plays_packages, plays_refusals)
EXPECTED_FAILURES = {"S01", "S02", "S03", "S05", "S06", "S10", "S15", "S17", "S18", "S25", "S27"}
RIVAL_FAILS = [entry for entry in SCENARIOS if entry.legacy_fails]
# What no script without a transaction can do: roll back, refuse, lock, tell the truth, repeat itself.
NO_TRANSACTION = {"S01", "S02", "S04", "S06", "S15", "S17", "S18"}


def _name(entry: Scenario) -> str:
    return f"{entry.row}-{entry.name}"


@pytest.mark.parametrize("entry", SCENARIOS, ids=_name)
def test_survives(stage, tally, entry):
    tally(f"scenario {entry.row}")
    entry.play(VmFactory(stage))


@pytest.mark.parametrize("entry", RIVAL_FAILS, ids=_name)
def test_catches_the_rival(stage, record_property, entry):
    """A scenario that the rival passes proves nothing."""
    with pytest.raises((AssertionError, OSError)) as caught:
        entry.play(VmFactory(stage, LEGACY))
    seen = " ".join(str(caught.value).split())[:90]
    record_property("rival", [entry.row, entry.name.replace("_", " "), seen])


def test_the_lab_cannot_write_to_the_machine(stage):
    with stage.clone("router") as lab:
        process = lab.start("-c", "touch /usr/bin/probe /usr/sbin/probe /usr/lib/probe /usr/lib64/probe")
        _, stderr = process.communicate(timeout=60)
        assert stderr.count(b"Read-only file system") == 4, stderr


def test_the_rival_patches_a_healthy_vm(stage):
    """Its failures come from the scenarios, not from the lab."""
    with stage.clone("router") as lab:
        run = lab.patch(VmFactory(stage, LEGACY).new())
        assert (run.status, run.output) == (0, f"version:{bundles.new().signature} \n")
        assert lab.read("opt/cloud/bin/configure.py") == "configure of 4.22\n"
        assert lab.is_active("haproxy")


def test_catches_the_rival_wherever_it_is_known_to_fail():
    assert {entry.row for entry in RIVAL_FAILS} >= EXPECTED_FAILURES


@pytest.mark.another_script
@pytest.mark.parametrize("entry", SCENARIOS, ids=_name)
def test_another_script_survives(stage, request, record_property, entry):
    script = Path(request.config.getoption("--patch-script"))
    if entry.own:
        pytest.skip(f"only our own script can be asked: {entry.own}")
    try:
        entry.play(VmFactory(stage, script))
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        seen = " ".join(str(error).split())[:160] or type(error).__name__
        record_property("rival", [entry.row, entry.name.replace("_", " "), seen])
        pytest.fail(seen, pytrace=False)


def test_a_script_without_a_transaction_fails_by_name_and_is_not_asked_for_our_journal():
    """The option itself, in the way in which people use it; only the rows that have to be named."""
    words = " or ".join(sorted(NO_TRANSACTION | {"S09"}))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-rs",
        "--patch-script",
        str(LEGACY),
    ]
    done = subprocess.run(
        [*command, "-k", words, __file__], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    table = done.stdout.partition("what the script fails")[2]
    assert {line[:3] for line in table.splitlines()} >= NO_TRANSACTION, done.stdout
    assert "only our own script can be asked" in done.stdout
    assert " passed" in done.stdout, done.stdout
