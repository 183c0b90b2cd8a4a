"""A patched VM is what it would be had it booted with the new release's scripts."""

from __future__ import annotations

import pytest

from harness.lab.born import born_new, compare, left_over, send_alike
from harness.scenario import Lab, Trial, observe


@pytest.mark.scenario("born-new", companions=1)
def test_a_patched_vm_is_what_one_is_that_was_born_new(lab: Lab, live_patch: Trial) -> None:
    """Patched, and beside it a VM that booted with the new scripts, the same command line and rules: no difference."""
    answer = live_patch.patch(lab.new_bundle)
    live_patch.require("patch.ran", "" if answer.patched else f"it did not run: {answer.details}")
    with born_new(lab) as born:
        send_alike(lab, born, live_patch.vm)
        seen = observe(born.guest)
    outcomes = compare(
        lab.wish.vm_type, seen, observe(live_patch.vm.guest), live_patch.vm.topology.control.address,
        left_over(lab),
    )  # fmt: skip
    live_patch.note(outcomes)
