"""After a patch, a rollback or a refusal: every later use of the VM works, and so does it after a reboot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bundle import layout
from harness.lab.expected_lines import of_failing_service
from harness.scenario import Lab, Trial


@pytest.mark.scenario("aftermath-patched")
def test_everything_works_later_on_a_patched_vm(lab: Lab, live_patch: Trial) -> None:
    """Patched: machines and rules come and go, checks and log rotation run, patched again by force, rebooted."""
    answer = live_patch.patch(lab.new_bundle)
    live_patch.require("patch.ran", "" if answer.patched else f"it did not run: {answer.details}")
    live_patch.aftermath(whole=True)
    third = live_patch.patch(lab.new_bundle, expected="kept")
    live_patch.require("patch.no-op", "it ran a second time" if third.ran else "")
    forced = live_patch.patch(lab.new_bundle, forced=True)
    live_patch.require("patch.forced", "" if forced.patched else f"it did not run: {forced.details}")
    live_patch.reboot()
    live_patch.aftermath()


@pytest.mark.scenario("aftermath-rolled-back")
def test_everything_works_later_on_a_vm_whose_patch_was_undone(lab: Lab, live_patch: Trial) -> None:
    """Rolled back: later uses work as if nobody had tried, and the next boot installs nothing of the bundle."""
    service = lab.broken_service()
    answer = live_patch.patch(lab.broken_bundle(), expected="kept", trouble=of_failing_service(service))
    live_patch.require("rollback.reported", "the patch claims success" if answer.success else "")
    live_patch.aftermath(whole=True)
    live_patch.reboot()
    live_patch.aftermath()


@pytest.mark.scenario("aftermath-refused")
def test_everything_works_later_on_a_vm_that_refused_a_bundle(
    lab: Lab, live_patch: Trial, tmp_path: Path
) -> None:
    """Refused, for the archive is not the one that the script is of: the next boot does not install it either."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in layout.PAYLOAD:
        folder = lab.broken_bundle() if name == layout.SCRIPTS else lab.new_bundle
        shutil.copyfile(folder / name, mixed / name)
    answer = live_patch.patch(mixed, expected="kept", trouble=of_failing_service(lab.broken_service()))
    if answer.success:
        pytest.skip("this script takes any archive: there is nothing that it refuses")
    live_patch.aftermath(whole=True)
    live_patch.reboot()
    live_patch.aftermath()
