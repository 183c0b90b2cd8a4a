"""The judge itself: what a patch or the rules after it do wrong unseen by the script must be found, with its extent."""

from __future__ import annotations

import time

import pytest

from bundle import catalogue
from harness.kvmagent import patch
from harness.lab.budgets import FIRST_ANSWERS
from harness.lab.faults import BeginFault
from harness.scenario import Lab, Traffic, Trial

_DARK = 4.0
# Under emulation a request that was on its way waits for the sender's next attempt.
_LONGEST = {"kvm": 6.0, "qemu": 10.0}


@pytest.mark.scenario(
    "S55-darkness-is-found",
    types=catalogue.load().types_that(have="rules"),
    why="only routers of whole networks are sent rules",
)
def test_darkness_while_rules_are_sent_is_found_with_its_length(
    lab: Lab, live_patch: Trial, fault: BeginFault
) -> None:
    """The public side is dark for 4 s while rules are sent again: the probes tell it, and how long it was."""
    nics = live_patch.vm.topology.nics
    public = next(number for number, nic in enumerate(nics) if nic.role == "public")
    with Traffic(live_patch.probes()) as traffic:
        traffic.settle(FIRST_ANSWERS, live_patch.vm.machine.stretch())
        began = time.monotonic()
        with fault("nic.down", nic=public, seconds=_DARK):
            live_patch.send_rules()
            time.sleep(max(0.0, _DARK + 0.5 - (time.monotonic() - began)))
        time.sleep(5)
    gaps = {result.name: result.longest_gap_ms / 1000 for result in traffic.results}
    dark = {name: gap for name, gap in gaps.items() if gap >= _DARK - 0.5}
    live_patch.require("darkness.found", "" if dark else f"no probe saw it: {gaps}")
    longest = _LONGEST[lab.engine.accelerator.domain_type]
    odd = {name: gap for name, gap in dark.items() if gap > longest}
    live_patch.require("darkness.length", f"longer than it was: {odd}" if odd else "")


@pytest.mark.scenario("S56-old-binary-is-found")
def test_a_restart_that_did_nothing_is_found(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """The service manager says that it has restarted services, and has not: found by the script, or by the judge."""
    files = live_patch.files(lab.new_bundle)
    success = False

    def act() -> None:
        nonlocal success
        with fault("program.broken", names=["systemctl"], deed="lies", words="@(restart|reload|try-|start)*"):
            success = patch.patch(live_patch.vm.guest, files).success

    case = live_patch.interrupted(files, act)
    new = case.expected == "patched"
    if new:
        live_patch.require_found("services.renewed")
    said, side = "claims success" if success else "says that it failed", "new" if new else "old"
    live_patch.require(
        "restart.told", "" if success == new else f"the patch {said}, and the VM is the {side} one"
    )
