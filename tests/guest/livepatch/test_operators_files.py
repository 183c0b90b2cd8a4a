"""An operator's file where a release ships one: kept beside and named, or refused; not so what is surely unchanged."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import pytest

from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import JOURNAL, FolderVm

LOG = "var/log/livepatchsystemvm.log"
KEPT = "usr/share/cloud/cloud-scripts.tgz"
# What a VM knows of the installed release: its manifest, or only the archive that was installed, or nothing.
BASELINES = ("manifest", "archive", "damaged archive", "nothing")
THERE = ("absent", "as installed", "as the new one", "another", "a link")


@dataclass(frozen=True)
class Case:
    """A path of the new release, whether the installed one ships it, and what stands there."""

    was_shipped: bool
    there: str

    @property
    def path(self) -> str:
        """Where it is."""
        return f"opt/cloud/own/{self.there.replace(' ', '-')}{'-was' if self.was_shipped else ''}"

    def is_kept(self, baseline: str) -> bool:
        """Say whether a person may have written it."""
        if self.there in ("absent", "as the new one"):
            return False
        known = self.was_shipped and baseline in ("manifest", "archive")
        return not (known and self.there == "as installed")

    @property
    def content(self) -> bytes:
        """What stands there, if it is a file."""
        return f"{'new' if self.there == 'as the new one' else self.there}\n".encode()


CASES = [Case(was_shipped, there) for was_shipped in (False, True) for there in THERE]


def _new(cases: list[Case]) -> bundles.Bundle:
    content = bundles.new_content()
    return bundles.make(
        replace(content, scripts=content.scripts | {case.path: (b"new\n", 0o644) for case in cases})
    )


def _install(lab: FolderVm, baseline: str, cases: list[Case]) -> None:
    """Make the VM one whose release ships some of the paths, and let a person have been there since."""
    old = bundles.old_content()
    shipped = {case.path: (b"as installed\n", 0o644) for case in cases if case.was_shipped}
    bundle = bundles.make(replace(old, scripts=old.scripts | shipped))
    (lab.root / JOURNAL / "installed.manifest").write_text(bundle.manifest)
    kept = lab.root / KEPT
    kept.write_bytes(bundle.scripts[:200] if baseline == "damaged archive" else bundle.scripts)
    if baseline != "manifest":
        (lab.root / JOURNAL / "installed.manifest").unlink()
    if baseline == "nothing":
        kept.unlink()
    for case in cases:
        file = lab.root / case.path
        file.parent.mkdir(parents=True, exist_ok=True)
        if case.there == "a link":
            file.symlink_to("/etc/hostname")
        elif case.there != "absent":
            file.write_bytes(case.content)


@pytest.mark.parametrize("baseline", BASELINES)
def test_what_may_be_an_operators_file_is_kept_beside_and_named(lab, baseline):
    _install(lab, baseline, CASES)
    assert lab.patch(_new(CASES)).status == 0
    log = lab.read(LOG)
    assert ("what the installed release shipped is unknown" in log) == (baseline in BASELINES[2:])
    for case in CASES:
        file = lab.root / case.path
        kept = file.with_name(f"{file.name}.dist-old")
        assert not file.is_symlink() and file.read_bytes() == b"new\n", case
        assert os.path.lexists(kept) == case.is_kept(baseline), case
        assert (f"/{case.path} was changed on this VM" in log) == case.is_kept(baseline), case
        if case.is_kept(baseline):
            assert kept.is_symlink() if case.there == "a link" else kept.read_bytes() == case.content, case


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_strict_patch_refuses_what_may_be_an_operators_file(stage, baseline):
    innocent = [case for case in CASES if not case.is_kept(baseline)]
    for case in [case for case in CASES if case.is_kept(baseline)]:
        with stage.clone("router") as lab:
            _install(lab, baseline, [*innocent, case])
            before = lab.state()
            run = lab.patch(_new([*innocent, case]), "--strict")
            assert run.status == 2 and "--strict is set, and /" in run.output, (case, run)
            # Where nothing is known, every other file of the VM is suspect, too.
            assert f"/{case.path} was changed" in run.output or baseline in BASELINES[2:], (case, run)
            assert lab.state() == before, case


@pytest.mark.parametrize("baseline", BASELINES[:2])
def test_a_strict_patch_takes_what_is_known_to_be_unchanged(lab, baseline):
    innocent = [case for case in CASES if not case.is_kept(baseline)]
    _install(lab, baseline, innocent)
    run = lab.patch(_new(innocent), "--strict")
    assert run.status == 0, run
