"""The road of every live patch: it succeeds, it fails and is undone, and after a failure it still succeeds."""

from __future__ import annotations

import pytest

from bundle.errors import UsageError
from harness.lab.expected_lines import of_failing_service
from harness.scenario import Lab, Trial


@pytest.mark.scenario("live-patch", default=True)
def test_patches_the_vm_and_keeps_its_rules(lab: Lab, live_patch: Trial) -> None:
    """A healthy bundle: services renewed, files new, rules and later uses work; a second patch changes nothing."""
    answer = live_patch.patch(lab.new_bundle)
    live_patch.require("patch.ran", "" if answer.patched else f"it did not run: {answer.details}")
    again = live_patch.patch(lab.new_bundle, expected="kept")
    live_patch.require("patch.no-op", "it ran a second time" if again.ran else "")
    live_patch.aftermath()


@pytest.mark.scenario("S01-rollback", default=True)
def test_rolls_back_when_a_service_does_not_come_back(lab: Lab, live_patch: Trial) -> None:
    """A bundle that breaks a service: everything is as before, and a healthy bundle succeeds afterwards."""
    try:
        service = lab.broken_service()
    except UsageError as error:
        pytest.skip(str(error))
    trouble = of_failing_service(service)
    answer = live_patch.patch(lab.broken_bundle(), expected="kept", trouble=trouble, fault=lab.fault)
    live_patch.require("rollback.reported", "the patch claims success" if answer.success else "")
    reason = "" if service in answer.details else f"the reason does not name {service}: {answer.details!r}"
    live_patch.require("rollback.reason", reason)
    healthy = live_patch.patch(lab.new_bundle, trouble=trouble)
    live_patch.require(
        "rollback.converges", "" if healthy.patched else f"a healthy patch fails: {healthy.details}"
    )
    live_patch.aftermath()
