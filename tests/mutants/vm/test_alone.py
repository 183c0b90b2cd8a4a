"""Every damage and every broken later use alone, on a VM of its own: ``nox -s mutants -- vm``."""

from __future__ import annotations

import shutil

import pytest

from harness.checks import failed, judge
from harness.kvmagent import patch
from tests.mutants.vm import break_uses, broken_uses, damages, first, told_later

pytest_plugins = ["harness.plugin"]


@pytest.mark.parametrize("row", damages(), ids=lambda row: row.name)
def test_a_damage_that_a_bundle_does_after_its_commit_is_caught(lab, live_patch, tmp_path, row):
    live_patch.proof_deadline, live_patch.probing = 2.0, False
    shell = row.shell or next(other.shell for other in damages() if other.name == row.along)
    bundle = shutil.copytree(lab.new_bundle, tmp_path / "bundle")
    files = live_patch.files(first(bundle, "export LIVEPATCH_SOAK=2"))

    def act():
        answer = patch.patch(live_patch.vm.guest, files)
        live_patch.vm.guest.run("bash -s", stdin=shell.encode(), deadline=60)
        return answer

    case = live_patch.watch(files, act, rules="leave")

    live_patch.failures.clear()
    told = {found.name: [found.reason, *found.details] for found in failed(judge(case))}
    check = "files.explained" if row.check == "files" else row.check
    assert any(row.words in line for line in told.get(check, ())), told


@pytest.mark.parametrize("row", broken_uses(), ids=lambda row: row.name)
def test_a_later_use_that_is_broken_is_caught(lab, live_patch, tmp_path, row):
    live_patch.probing = False
    answer = live_patch.patch(break_uses(lab.new_bundle, tmp_path / "bundle", [row]))
    assert answer.patched, answer
    assert live_patch.failures == []

    told = told_later(live_patch, [row])
    assert row.words in told.get(row.check, ""), told
