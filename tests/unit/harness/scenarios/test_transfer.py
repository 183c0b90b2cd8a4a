"""What S02 and S23 say of bundles that arrive badly, and that they catch agents and scripts that are wrong there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.guest.connection import ConnectionLost, SshCommandResult
from harness.guest.transfer import CLEAR, LineConditions
from harness.kvmagent import patch
from harness.kvmagent.patch import LANDING, BundleFiles
from harness.scenarios import test_refusals
from harness.scenarios import test_transfer as scenario

OLD, NEW = "0" * 32, "a" * 128
BUNDLE = BundleFiles(Path("b"), {name: name.encode() * 9 for name in patch.FILES}, NEW)


class Vm:
    """A VM whose files arrive as their lines let them, with a patch script that checks its archives."""

    name = "r-10-VM"

    def __init__(self) -> None:
        self.signature = OLD
        self.files: dict[str, bytes] = {}
        self.lines: list[LineConditions] = []

    def put(self, data: bytes, path: str, _mode: int = 0o644, *, line: LineConditions = CLEAR) -> None:
        self.lines.append(line)
        self.files[path] = data[: line.ends_after] if line.ends_after else data
        if line.cut_after:
            self.files[path] = data[: line.cut_after]
            raise ConnectionLost("cut")

    def run(self, command: str, **_options: object) -> SshCommandResult:
        if command.endswith("get_template_version.sh"):
            return SshCommandResult(command, 0, f"Release 4.21.0&{self.signature}\n", "", 0.1)
        damaged = self.refusal()
        if damaged:
            return SshCommandResult(command, 1, "", damaged, 0.1)
        self.signature = NEW
        return SshCommandResult(command, 0, f"version:{NEW}\n", "", 0.1)

    def refusal(self) -> str:
        wrong = [name for name, whole in BUNDLE.contents.items() if self.files[f"{LANDING}/{name}"] != whole]
        return f"{wrong[0]} is damaged" if wrong else ""


class Careless(Vm):
    """Believes whatever has arrived."""

    def refusal(self) -> str:
        return ""


class Terse(Vm):
    """Refuses without a word about what."""

    def refusal(self) -> str:
        return "no" if super().refusal() else ""


class Notes:
    """A trial that does, and takes notes: a patch that ended otherwise than it had to is a note, too."""

    def __init__(self, vm: Vm) -> None:
        self.vm: Any = SimpleNamespace(guest=vm)
        self.notes: list[str] = []

    def files(self, _bundle: Path) -> BundleFiles:
        return BUNDLE

    def require(self, name: str, problem: str) -> None:
        if problem:
            self.notes.append(name)

    def watch(self, _files: BundleFiles, act: Callable[[], object], *, expected: str) -> None:
        before = self.vm.guest.signature
        act()
        wanted = NEW if expected == "patched" else before
        self.require("state", "" if self.vm.guest.signature == wanted else "another one")

    def refused(self, files: BundleFiles, reason: str, *, guest: Any) -> None:
        answers: list[patch.PatchAnswer] = []
        self.watch(files, lambda: answers.append(patch.patch(guest, files)), expected="kept")
        self.require("refused", "success" if answers[0].success else "")
        self.require("refused.reason", "" if reason in answers[0].details else "no reason")

    def patch(self, _bundle: Path, expected: str = "patched") -> patch.PatchAnswer:
        answers: list[patch.PatchAnswer] = []
        self.watch(BUNDLE, lambda: answers.append(patch.patch(self.vm.guest, BUNDLE)), expected=expected)
        return answers[0]


def noted(play: Callable[..., None], vm: Vm, *arguments: str) -> list[str]:
    trial: Any = Notes(vm)
    play(SimpleNamespace(new_bundle=Path("b")), trial, *arguments)
    return trial.notes


SLOW_AND_CUT = scenario.test_an_upload_that_is_slow_and_was_cut_patches_all_the_same
NEVER = scenario.test_an_upload_that_never_arrives_leaves_the_vm_as_it_was
SHORT = test_refusals.test_an_upload_that_ended_early_is_refused


def test_a_right_agent_and_a_right_script_pass() -> None:
    vm = Vm()
    assert noted(SLOW_AND_CUT, vm) == []
    assert vm.lines[0].rate == pytest.approx(len(BUNDLE.contents["agent.zip"]) / 3)
    assert [line.cut_after is not None for line in vm.lines] == [False, True, False, False, False]
    assert noted(NEVER, Vm()) == []
    assert noted(SHORT, Vm(), "cloud-scripts.tgz") == noted(SHORT, Vm(), "agent.zip") == []


@pytest.mark.parametrize(
    ("attempts", "caught"), [(1, ["state", "patch.ran", "upload.again", "state", "patch.no-op"]), (2, [])]
)
def test_an_agent_that_does_not_begin_again_is_caught(
    monkeypatch: pytest.MonkeyPatch, attempts: int, caught: list[str]
) -> None:
    monkeypatch.setattr(patch, "_UPLOAD_ATTEMPTS", attempts)
    assert noted(SLOW_AND_CUT, Vm()) == caught


def test_an_agent_that_runs_the_script_without_its_files_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def upload(guest: Any, contents: dict[str, bytes], **_attempts: int) -> None:
        for name in patch.FILES:
            try:
                guest.put(contents[name], f"{LANDING}/{name}", 0o755)
            except ConnectionLost:
                continue

    monkeypatch.setattr(patch, "upload", upload)
    assert "state" in noted(NEVER, Careless())
    assert "patch.not-run" in noted(NEVER, Vm())


@pytest.mark.parametrize("name", ["cloud-scripts.tgz", "agent.zip"])
def test_a_script_that_takes_half_an_archive_or_does_not_say_which_is_caught(name: str) -> None:
    assert noted(SHORT, Careless(), name)[:3] == ["state", "refused", "refused.reason"]
    assert noted(SHORT, Terse(), name) == ["refused.reason"]
