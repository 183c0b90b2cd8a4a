"""Changes by operators, and files that releases drop and add: nothing is silently lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle import catalogue, layout
from bundle.derive import derive
from harness.checks import shipped
from harness.kvmagent import patch
from harness.lab.expected_lines import of_failing_service
from harness.lab.faults import BeginFault
from harness.observe import files as state
from harness.observe import rules
from harness.scenario import Lab, PatchAnswer, SshCommandResult, SshGuest, Trial

_LOG = "/var/log/livepatchsystemvm.log"
_MARK = "sysvm-operator-was-here"
_NEW = "/opt/cloud/bin/sysvm-new-in-this-release"
_PLACES = "/etc /opt /root /usr/local /var/cache/cloud /var/lib /var/backups"


def _scripts_of_both(trial: Trial) -> list[str]:
    """Return the scripts that both releases ship in different versions, and that no rule rewrites."""
    lab = trial.lab
    old = shipped.read(patch.load_bundle(lab.old_bundle), lab.wish.vm_type)
    new = shipped.read(trial.files(lab.new_bundle), lab.wish.vm_type)
    return [
        path
        for path, row in new.items()
        if row.kind == "file" and path.startswith("/opt/cloud/bin/")
        and (known := old.get(path)) and known.sha256 != row.sha256
    ]  # fmt: skip


def _derived(lab: Lab, folder: Path, edit: Callable[[Any], None]) -> Path:
    return derive(lab.new_bundle, folder, edit, digest=lab.new.signature)


def _require_not_lost(trial: Trial, answer: PatchAnswer, path: str) -> None:
    """Require that what the operator wrote is somewhere, and that somebody was told."""
    guest = trial.vm.guest
    found = guest.run(f"grep -rIl {_MARK} {_PLACES} 2>/dev/null; true", deadline=120).stdout.split()
    trial.require("operator.kept", "" if found else f"what was written to {path} is nowhere any more")
    told = guest.run(f"cat {_LOG} 2>/dev/null; true").stdout + answer.details
    trial.require("operator.told", "" if path.lstrip("/") in told else f"nobody was told of {path}")


@pytest.mark.scenario("S42-operators-change-kept")
def test_a_change_in_an_owned_file_is_kept_or_named(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """A person has changed a script that the release replaces: kept beside it or refused, and named."""
    paths = _scripts_of_both(live_patch)
    if not paths:
        pytest.skip("no script differs between the two releases")
    files, answer = live_patch.files(lab.new_bundle), PatchAnswer(False, "the patch was not run")

    def act() -> None:
        nonlocal answer
        answer = patch.patch(live_patch.vm.guest, files)

    content = live_patch.vm.guest.get(paths[0]) + f"\n# {_MARK}\n".encode()
    with fault("operator.writes", path=paths[0], content=content):
        case = live_patch.interrupted(files, act)
    true = answer.success == (case.expected == "patched")
    live_patch.require("answer.true", "" if true else f"it says {answer.details!r}")
    _require_not_lost(live_patch, answer, paths[0])


@pytest.mark.scenario("S49-operators-own-file-kept")
def test_a_file_of_the_operator_where_the_release_ships_one(
    lab: Lab, live_patch: Trial, fault: BeginFault, tmp_path: Path
) -> None:
    """A person's own file stands where the new release ships one for the first time: kept beside it, and named."""
    live_patch.brief = True

    def edit(contents: Any) -> None:
        contents[layout.SCRIPTS].write(_NEW.lstrip("/"), b"#!/bin/sh\n# of the release\n", 0o755)

    bundle = _derived(lab, tmp_path / "bundle", edit)
    with fault("operator.writes", path=_NEW, content=f"# {_MARK}\n".encode()):
        answer = live_patch.patch(bundle)
    _require_not_lost(live_patch, answer, _NEW)


@pytest.mark.scenario("S50-mount-below-is-left-alone")
def test_a_mount_below_an_owned_folder_is_left_alone(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """A file system is mounted below an owned folder: neither followed nor emptied, whatever becomes of the patch."""
    files = live_patch.files(lab.new_bundle)
    folder = "/opt/cloud/bin/operator"
    answer, kept = PatchAnswer(False, "the patch was not run"), ""

    def act() -> None:
        nonlocal answer, kept
        with fault("operator.mounts", folder=folder):
            answer = patch.patch(live_patch.vm.guest, files)
            kept = live_patch.vm.guest.run(f"cat {folder}/kept", check=False).stdout.strip()

    case = live_patch.interrupted(files, act)
    live_patch.require("mount.kept", "" if kept == "kept" else f"what was mounted at {folder} is gone")
    true = answer.success == (case.expected == "patched")
    live_patch.require("answer.true", "" if true else f"it says {answer.details!r}")


@pytest.mark.scenario("S50-link-below-is-not-followed")
def test_a_link_below_an_owned_folder_is_not_followed(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """A link to a folder elsewhere lies below an owned folder: neither followed nor emptied, and it stays a link."""
    files = live_patch.files(lab.new_bundle)
    path, folder = "/opt/cloud/bin/operator", "/srv/operator"
    answer, kept = PatchAnswer(False, "the patch was not run"), ""

    def act() -> None:
        nonlocal answer, kept
        with fault("operator.links", path=path, folder=folder):
            answer = patch.patch(live_patch.vm.guest, files)
            kept = live_patch.vm.guest.run(f"cat {folder}/kept && readlink {path}", check=False).stdout

    case = live_patch.interrupted(files, act)
    live_patch.require(
        "link.kept", "" if kept.split() == ["kept", folder] else f"of {path} there is {kept!r}"
    )
    true = answer.success == (case.expected == "patched")
    live_patch.require("answer.true", "" if true else f"it says {answer.details!r}")


@pytest.mark.scenario("S25-dropped-files-go-and-come-back")
def test_what_a_release_drops_is_gone_and_comes_back_with_a_rollback(
    lab: Lab, live_patch: Trial, tmp_path: Path
) -> None:
    """A release drops a script: gone after the patch; a release that drops it and fails has it back."""
    live_patch.brief = True
    old = shipped.read(patch.load_bundle(lab.old_bundle), lab.wish.vm_type)
    both = [path for path in _scripts_of_both(live_patch) if path in old]
    dropped = [path for path in both if path.endswith((".sh", ".py"))][-1:] or both[-1:]
    if not dropped:
        pytest.skip("no script differs between the two releases")
    service = lab.broken_service()

    def edit(contents: Any) -> None:
        contents[layout.SCRIPTS].remove(dropped[0].lstrip("/"))

    failing = derive(lab.broken_bundle(), tmp_path / "failing", edit, digest=lab.new.signature)
    answer = live_patch.patch(failing, expected="kept", trouble=of_failing_service(service))
    live_patch.require("rollback.told", "the patch claims success" if answer.success else "")
    healthy = live_patch.patch(_derived(lab, tmp_path / "healthy", edit), trouble=of_failing_service(service))
    live_patch.require("patch.succeeded", "" if healthy.patched else healthy.details)
    gone = live_patch.vm.guest.run(f"ls {dropped[0]}", check=False).status != 0
    live_patch.require("dropped.gone", "" if gone else f"{dropped[0]} is still there")


@pytest.mark.scenario("S17-patched-again-and-again")
def test_a_second_and_a_third_patch_change_nothing_more(lab: Lab, live_patch: Trial) -> None:
    """Patched, then patched again by force: the same files and the same rules, none of them twice."""
    live_patch.brief = True
    live_patch.patch(lab.new_bundle)
    first = live_patch.cases[-1].patched
    live_patch.patch(lab.new_bundle, forced=True)
    again = live_patch.cases[-1].patched
    lines = state.readable(state.diff(first.state, again.state))
    live_patch.require("again.files", f"files differ: {lines[0]}" if lines else "")
    differ = [
        name
        for name, was in first.rules.items()
        if name not in again.rules or rules.compare(was, again.rules[name])
    ]
    live_patch.require("again.rules", f"rules differ: {', '.join(differ)}" if differ else "")


class _Umask:
    """A guest whose login has another umask."""

    def __init__(self, guest: SshGuest, mask: str) -> None:
        self._guest, self._mask = guest, mask
        self.name = guest.name

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        self._guest.put(data, path, mode)

    def run(
        self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True
    ) -> SshCommandResult:
        whole = f"umask {self._mask}; {command}" if command.endswith(layout.SCRIPT) else command
        return self._guest.run(whole, deadline=deadline, stdin=stdin, check=check)


@pytest.mark.scenario("S36-modes-whatever-the-umask")
@pytest.mark.parametrize("mask", ["0000", "0077"])
def test_modes_and_owners_are_those_of_the_release(lab: Lab, live_patch: Trial, mask: str) -> None:
    """Patched by a login whose umask is wide open, or closed: every mode and owner is the release's, secrets shut."""
    live_patch.brief = True
    files = live_patch.files(lab.new_bundle)
    live_patch.watch(files, lambda: patch.patch(_Umask(live_patch.vm.guest, mask), files))


@pytest.mark.scenario("S52-patch-within-a-release")
def test_a_patch_within_one_release_patches_once(lab: Lab, live_patch: Trial, tmp_path: Path) -> None:
    """A newer build of the release that the VM was patched to, with one script changed: patched once, then left."""
    live_patch.brief = True
    live_patch.patch(lab.new_bundle)

    def edit(contents: Any) -> None:
        contents[layout.SCRIPTS].write("opt/cloud/bin/sysvm-new-in-this-build", b"#!/bin/sh\n", 0o755)

    newer = _derived(lab, tmp_path / "newer", edit)
    answer = live_patch.patch(newer)
    live_patch.require("patch.ran", "" if answer.patched else f"it did not run: {answer.details}")
    again = live_patch.patch(newer, expected="kept")
    live_patch.require("patch.no-op", "it ran a second time" if again.ran else "")


@pytest.mark.scenario(
    "S52-agent-alone-changed",
    types=catalogue.load().types_that(have="agent"),
    why="no other VM has an agent that a patch brings",
)
def test_a_patch_that_changes_the_agent_alone_patches(lab: Lab, live_patch: Trial, tmp_path: Path) -> None:
    """A newer build with the same scripts and another agent: forced, for the signature is that of the scripts."""
    live_patch.brief = True
    live_patch.patch(lab.new_bundle)

    def edit(contents: Any) -> None:
        contents[layout.AGENT].write("sysvm-new-in-this-build", b"new\n")

    newer = _derived(lab, tmp_path / "newer", edit)
    again = live_patch.patch(newer, expected="kept")
    live_patch.require("patch.left", "it ran unforced, with the signature that it has" if again.ran else "")
    answer = live_patch.patch(newer, forced=True)
    live_patch.require("patch.ran", "" if answer.patched else f"it did not run: {answer.details}")


@pytest.mark.scenario("S27-older-release-refused")
def test_an_older_release_is_refused_also_when_forced(lab: Lab, live_patch: Trial) -> None:
    """A patched VM is to be patched with the release that it had before, by force: refused with the reason."""
    live_patch.brief = True
    live_patch.patch(lab.new_bundle)
    older = patch.load_bundle(lab.old_bundle)
    answer = PatchAnswer(True, "the patch was not run")

    def act() -> PatchAnswer:
        nonlocal answer
        answer = patch.patch(live_patch.vm.guest, older, forced=True)
        return answer

    live_patch.watch(older, act, expected="kept")
    live_patch.require("older.refused", "the patch claims success" if answer.success else "")
    live_patch.require("older.reason", "" if "older" in answer.details else f"it says {answer.details!r}")
