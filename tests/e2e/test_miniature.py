"""A checkout of a person's own takes the whole road: its template, its scripts, its patch script, and the verdict."""

from __future__ import annotations

import json

import pytest

from tests.miniature import make

# What the rival's faults look like to the judge: it never rolls back, and resets what rules have written.
FOUND_WHEN_IT_FAILS = {"files.kept", "services.up", "version.kept"}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trees")
    return make(folder / "old", "4.21"), make(folder / "new", "4.22", note="new")


def _rows(done):
    return {row["id"]: row for row in json.loads(done.stdout)["scenarios"]}


def _failed(row):
    return {check["name"] for check in row["checks"] if check["verdict"] in {"failed", "error"}}


def test_a_script_without_a_rollback_fails_by_name_and_ours_passes(sysvm, trees, nothing_left):
    old, new = trees
    subject = ("--source", str(new), "--from-source", str(old), "--json")
    theirs = sysvm("run", *subject, "--scenario", "S01-rollback")
    assert theirs.returncode == 1, theirs.stdout + theirs.stderr
    rolled_back = _rows(theirs)["router-from-4.21-S01-rollback"]
    assert rolled_back["verdict"] == "failed"
    assert _failed(rolled_back) >= FOUND_WHEN_IT_FAILS
    ours = sysvm("run", *subject, "--script", "ours")
    assert ours.returncode == 0, ours.stdout + ours.stderr
    assert {row["verdict"] for row in _rows(ours).values()} == {"passed"}


def test_a_mix_is_refused_before_anything_starts(sysvm, trees, nothing_left):
    done = sysvm("run", "--source", str(trees[1]), deadline=20)
    assert done.returncode == 2
    assert (
        "the VM has scripts of the reference payload, and the bundle is of a CloudStack checkout"
        in done.stderr
    )
    assert "--from-source TREE" in done.stderr
