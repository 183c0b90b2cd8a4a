"""The same rows, those that cannot hide each other on one VM: ``nox -s mutants -- packed``, in a third of the time."""

from __future__ import annotations

import shutil

import pytest

from harness.checks import failed, judge
from harness.kvmagent import patch
from tests.mutants.vm import break_uses, broken_uses, damages, first, packs, told_later

pytest_plugins = ["harness.plugin"]
GROUPS = sorted({row.group for row in broken_uses()})


@pytest.mark.parametrize("rows", packs(), ids=lambda rows: " and ".join(row.name for row in rows))
def test_damages_that_no_two_are_found_by_one_check_are_caught(lab, live_patch, tmp_path, rows):
    live_patch.proof_deadline, live_patch.probing = 2.0, False
    bundle = shutil.copytree(lab.new_bundle, tmp_path / "bundle")
    files = live_patch.files(first(bundle, "export LIVEPATCH_SOAK=2"))
    shells = {row.along or row.name: row.shell for row in damages() if not row.along}

    def act():
        answer = patch.patch(live_patch.vm.guest, files)
        for name in dict.fromkeys(row.along or row.name for row in rows):
            live_patch.vm.guest.run("bash -s", stdin=shells[name].encode(), deadline=60)
        return answer

    case = live_patch.watch(files, act, rules="leave")

    live_patch.failures.clear()
    told = {found.name: [found.reason, *found.details] for found in failed(judge(case))}
    checks = {row.name: "files.explained" if row.check == "files" else row.check for row in rows}
    missed = [
        row.name for row in rows if not any(row.words in line for line in told.get(checks[row.name], ()))
    ]
    assert missed == [], told


@pytest.mark.parametrize("group", GROUPS)
def test_later_uses_of_one_group_that_are_broken_are_caught(lab, live_patch, tmp_path, group):
    live_patch.probing = False
    rows = [row for row in broken_uses() if row.group == group]
    answer = live_patch.patch(break_uses(lab.new_bundle, tmp_path / "bundle", rows))
    assert answer.patched, answer
    assert live_patch.failures == []

    told = told_later(live_patch, rows)
    assert [row.name for row in rows if row.words not in told.get(row.check, "")] == [], told
