"""The bundle's way to the VM: slow, cut, endless, or shorter than it was sent."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from harness.kvmagent import patch
from harness.kvmagent.patch import FILES
from harness.lab.faults.uploads import OverLines
from harness.scenario import BundleFiles, Expectation, Lab, LineConditions, PatchAnswer, Trial

# Seconds that the slow upload of a file takes.
_SLOW_SECONDS = 3.0


def _over(
    trial: Trial, files: BundleFiles, lines: Iterable[LineConditions], expected: Expectation
) -> tuple[PatchAnswer, int]:
    """Patch over such lines and judge the VM; returns the answer, and how many uploads were begun."""
    guest = OverLines(trial.vm.guest, lines)
    answer = PatchAnswer(False, "the patch was not run")

    def act() -> PatchAnswer:
        nonlocal answer
        answer = patch.patch(guest, files)
        return answer

    trial.watch(files, act, expected=expected)
    return answer, guest.uploads


@pytest.mark.scenario("S23-slow-and-cut-upload")
def test_an_upload_that_is_slow_and_was_cut_patches_all_the_same(lab: Lab, live_patch: Trial) -> None:
    """One file is slow, the next is cut in its middle: the agent begins again, and the VM is patched once."""
    live_patch.brief = True
    files = live_patch.files(lab.new_bundle)
    first, second = (len(files.contents[name]) for name in FILES[:2])
    lines = [LineConditions(rate=first / _SLOW_SECONDS), LineConditions(cut_after=second // 2)]
    answer, uploads = _over(live_patch, files, lines, "patched")
    live_patch.require("patch.ran", "" if answer.patched else f"it did not run: {answer.details}")
    expected = len(lines) + len(FILES)
    live_patch.require("upload.again", "" if uploads == expected else f"{uploads} uploads, not {expected}")
    again = live_patch.patch(lab.new_bundle, expected="kept")
    live_patch.require("patch.no-op", "it ran a second time" if again.ran else "")


@pytest.mark.scenario("S23-upload-never-arrives")
def test_an_upload_that_never_arrives_leaves_the_vm_as_it_was(lab: Lab, live_patch: Trial) -> None:
    """The connection is cut in each attempt: the script is not run, the failure is told, and a good line patches."""
    live_patch.brief = True
    files = live_patch.files(lab.new_bundle)
    middle = LineConditions(cut_after=len(files.contents[FILES[0]]) // 2)
    answer, uploads = _over(live_patch, files, [middle] * 3, "kept")
    live_patch.require("upload.told", "" if "upload failed" in answer.details else f"says {answer.details!r}")
    live_patch.require("upload.attempts", "" if uploads == 3 else f"{uploads} uploads, not 3")
    live_patch.require("patch.not-run", "it ran" if answer.ran else "")
    healthy = live_patch.patch(lab.new_bundle)
    live_patch.require("patch.converges", "" if healthy.patched else f"it fails: {healthy.details}")
