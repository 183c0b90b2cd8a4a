"""The bundle's way to the VM: slow, cut, endless, or shorter than it was sent."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from harness.guest.transfer import CLEAR
from harness.kvmagent import patch
from harness.kvmagent.patch import FILES
from harness.scenario import (
    BundleFiles,
    Expectation,
    Lab,
    LineConditions,
    PatchAnswer,
    SshCommandResult,
    SshGuest,
    Trial,
)

# Seconds that the slow upload of a file takes.
_SLOW_SECONDS = 3.0


class _BadLines:
    """A guest whose uploads meet one line after the other, and good ones after the last."""

    def __init__(self, guest: SshGuest, lines: Iterable[LineConditions]) -> None:
        self._guest = guest
        self._lines = itertools.chain(lines, itertools.repeat(CLEAR))
        self.name = guest.name
        self.uploads = 0

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        self.uploads += 1
        self._guest.put(data, path, mode, line=next(self._lines))

    def run(
        self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True
    ) -> SshCommandResult:
        return self._guest.run(command, deadline=deadline, stdin=stdin, check=check)


def _over(
    trial: Trial, files: BundleFiles, lines: Iterable[LineConditions], expected: Expectation
) -> tuple[PatchAnswer, int]:
    """Patch over such lines and judge the VM; returns the answer, and how many uploads were begun."""
    guest = _BadLines(trial.vm.guest, lines)
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
    files = live_patch.files(lab.new_bundle)
    middle = LineConditions(cut_after=len(files.contents[FILES[0]]) // 2)
    answer, uploads = _over(live_patch, files, [middle] * 3, "kept")
    live_patch.require("upload.told", "" if "upload failed" in answer.details else f"says {answer.details!r}")
    live_patch.require("upload.attempts", "" if uploads == 3 else f"{uploads} uploads, not 3")
    live_patch.require("patch.not-run", "it ran" if answer.ran else "")
    healthy = live_patch.patch(lab.new_bundle)
    live_patch.require("patch.converges", "" if healthy.patched else f"it fails: {healthy.details}")


@pytest.mark.scenario("S02-shortened-upload-refused")
@pytest.mark.parametrize("name", ["cloud-scripts.tgz", "agent.zip"])
def test_an_upload_that_ended_early_is_refused(lab: Lab, live_patch: Trial, name: str) -> None:
    """Half of a file arrives and nobody notices: the script refuses it by name, and a good line patches."""
    files = live_patch.files(lab.new_bundle)
    half = LineConditions(ends_after=len(files.contents[name]) // 2)
    lines = [half if file == name else CLEAR for file in FILES]
    answer, _ = _over(live_patch, files, lines, "kept")
    live_patch.require("refused", "the patch claims success" if answer.success else "")
    live_patch.require(
        "refused.reason", "" if name in answer.details else f"no {name} in: {answer.details!r}"
    )
    healthy = live_patch.patch(lab.new_bundle)
    live_patch.require("patch.converges", "" if healthy.patched else f"it fails: {healthy.details}")
