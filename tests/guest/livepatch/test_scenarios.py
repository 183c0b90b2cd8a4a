"""Every scenario of the table that a guest script decides, in the lab; and what the rival does in the same ones."""

from __future__ import annotations

import pytest

from tests.guest.livepatch import bundles, plays_content, plays_failures, plays_packages, plays_refusals
from tests.guest.livepatch.vm_factory import SCENARIOS, Scenario, VmFactory

PLAYS = (plays_content, plays_failures, plays_packages, plays_refusals)
EXPECTED_FAILURES = {"S01", "S02", "S03", "S05", "S06", "S10", "S15", "S17", "S18", "S25", "S27"}
LEGACY = [entry for entry in SCENARIOS if entry.legacy_fails]


def _name(entry: Scenario) -> str:
    return f"{entry.row}-{entry.name}"


@pytest.mark.parametrize("entry", SCENARIOS, ids=_name)
def test_survives(stage, tally, entry):
    tally(f"scenario {entry.row}")
    entry.play(VmFactory(stage))


@pytest.mark.parametrize("entry", LEGACY, ids=_name)
def test_catches_the_rival(stage, record_property, entry):
    """A scenario that the rival passes proves nothing."""
    with pytest.raises((AssertionError, OSError)) as caught:
        entry.play(VmFactory(stage, "legacy"))
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
        run = lab.patch(VmFactory(stage, "legacy").new())
        assert (run.status, run.output) == (0, f"version:{bundles.new().signature} \n")
        assert lab.read("opt/cloud/bin/configure.py") == "configure of 4.22\n"
        assert lab.is_active("haproxy")


def test_catches_the_rival_wherever_it_is_known_to_fail():
    assert {entry.row for entry in LEGACY} >= EXPECTED_FAILURES
