"""The judge itself: what a patch or the rules after it do wrong unseen by the script must be found, with its extent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bundle import catalogue
from harness.kvmagent import patch
from harness.lab.faults import BeginFault
from harness.scenario import Lab, Trial

# Seconds of darkness, and how long the probes may have been without an answer by it. Under emulation the judge lets
# more pass, and a request that was on its way waits for the sender's next attempt.
_DARK = {"kvm": (4.0, 6.0), "qemu": (12.0, 20.0)}


@pytest.mark.scenario(
    "S55-darkness-is-found",
    types=catalogue.load().types_that(have="rules"),
    why="only routers of whole networks are sent rules",
)
def test_darkness_while_rules_are_sent_is_found_with_its_length(
    lab: Lab, live_patch: Trial, fault: BeginFault
) -> None:
    """The public side is dark while rules are sent again after a patch: the judge says so, and how long it was."""
    nics = live_patch.vm.topology.nics
    public = next(number for number, nic in enumerate(nics) if nic.role == "public")
    seconds, longest = _DARK[lab.engine.accelerator.domain_type]

    @contextmanager
    def dark() -> Iterator[None]:
        began = time.monotonic()
        with fault("nic.down", nic=public, seconds=seconds):
            yield
            time.sleep(max(0.0, seconds + 0.5 - (time.monotonic() - began)))
        time.sleep(longest - seconds + 2)  # what is dark for longer is seen to be

    live_patch.sending = dark
    live_patch.patch(lab.new_bundle)
    live_patch.require_found("traffic.within-budget", "while rules were sent")
    gaps = {
        row.name: row.longest_gap_ms / 1000
        for row in live_patch.cases[-1].budgets
        if row.name.endswith("while rules were sent") and row.longest_gap_ms > row.budget_ms
    }
    odd = {name: gap for name, gap in gaps.items() if not seconds - 0.5 <= gap <= longest}
    live_patch.require(
        "darkness.length", f"it was {seconds:g} s, and is told as {odd}" if odd or not gaps else ""
    )


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
