"""The folders of runs in the cache: they go with their runs, whichever state folder these are in."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess

import pytest

from bundle.errors import InfrastructureError
from harness.host import runtime
from harness.machine import disks


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))
    return tmp_path


def start_run(run_id):
    (runtime.runs_folder() / run_id).mkdir(parents=True)
    return disks.open_work(run_id)


def test_work_goes_with_its_run():
    there, gone = start_run("a1"), start_run("b2")
    (gone / "vm.qcow2").touch()
    (runtime.runs_folder() / "b2").rmdir()
    disks.remove_ownerless_work()
    assert there.is_dir()
    assert sorted(path.name for path in there.parent.iterdir()) == ["a1", "a1.owner"]


def test_work_of_another_state_folder_is_left_alone(host, monkeypatch):
    theirs = start_run("a1")
    monkeypatch.setenv("SYSVM_STATE", str(host / "other"))
    disks.remove_ownerless_work()
    assert theirs.is_dir()


def test_work_that_nobody_signed_is_removed(host):
    folder = host / "cache" / "work" / "old"
    folder.mkdir(parents=True)
    disks.remove_ownerless_work()
    assert not folder.exists()


def test_scratch_takes_everything_along_unless_a_kept_vm_is_there():
    for run_id, overlay in (("a1", False), ("b2", True)):
        (runtime.runs_folder() / run_id).mkdir(parents=True)
        with disks.scratch(run_id) as folder:
            (folder / "x").touch()
            if overlay:
                (folder.parent / "vm.qcow2").touch()
    work = folder.parent.parent
    assert sorted(str(path.relative_to(work)) for path in work.rglob("*")) == [
        "b2",
        "b2.owner",
        "b2/vm.qcow2",
    ]


def test_an_overlay_is_a_copy_of_the_empty_one(tmp_path):
    base, empty, overlay = (tmp_path / name for name in ("base.qcow2", "empty.qcow2", "vm.qcow2"))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "1M"], check=True)
    disks.make_overlay(base, empty)
    disks.copy_overlay(empty, overlay)
    told = subprocess.run(
        ["qemu-img", "info", "--output=json", overlay], capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout)["backing-filename"] == str(base)


def test_an_overlay_that_cannot_be_made_is_one_line_and_no_file(tmp_path, monkeypatch):
    (tmp_path / "empty.qcow2").touch()

    def full(_source, target):
        target.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(InfrastructureError, match=r"vm\.qcow2: No space left on device$"):
        disks.copy_overlay(tmp_path / "empty.qcow2", tmp_path / "vm.qcow2")
    assert not (tmp_path / "vm.qcow2").exists()
