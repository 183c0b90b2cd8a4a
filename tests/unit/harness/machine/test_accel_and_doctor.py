"""The accelerator's proof and the doctor: hangs are found out, findings say what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bundle.errors import InfrastructureError
from harness.image import initramfs
from harness.machine import accel, doctor
from harness.machine.doctor import HostFinding


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Put a qemu-system-x86_64 first in PATH that behaves as the test says, by accelerator."""
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"kernel")

    def install(kvm, tcg):
        script = tmp_path / "bin" / "qemu-system-x86_64"
        script.parent.mkdir(exist_ok=True)
        script.write_text(
            "#!/bin/bash\n"
            '[ "$1" != --version ] || { echo QEMU 7.2; exit; }\n'
            "log=${*: -1}; log=${log#file:}\n"
            f'case "$*" in *"-accel kvm"*) {kvm} ;; *) {tcg} ;; esac\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        return kernel

    return install


READY = 'echo SYSVM-PROBE-READY >"$log"; sleep 30'


def test_a_kvm_that_boots_is_used(programs, monkeypatch):
    monkeypatch.setattr(accel, "usable_kvm_node", lambda *_: "")
    answer = accel.find(programs(READY, READY), 0, (0,))
    assert answer.accelerator.name == "kvm"
    assert answer.tried["kvm"] == "works"


def test_a_kvm_that_opens_and_hangs_is_found_out(programs, monkeypatch):
    monkeypatch.setattr(accel, "usable_kvm_node", lambda *_: "")
    monkeypatch.setattr(accel, "KVM_LIMIT", 0.3)
    started = time.monotonic()
    answer = accel.find(programs("exec sleep 30", READY), 0, (0,))
    assert answer.accelerator.name == "tcg"
    assert "silent for 0.3 s" in answer.reason
    assert time.monotonic() - started < 10


def test_the_answer_is_kept_for_the_next_time(programs, monkeypatch):
    monkeypatch.setattr(accel, "usable_kvm_node", lambda *_: "")
    kernel = programs(READY, READY)
    first = accel.find(kernel, 0, (0,))
    programs("exit 1", "exit 1")
    assert accel.find(kernel, 0, (0,)) == first


def test_a_closed_kvm_device_is_not_even_tried(programs, monkeypatch):
    monkeypatch.setattr(accel, "usable_kvm_node", lambda *_: "/dev/kvm is closed to QEMU's user 7")
    answer = accel.find(programs("exit 9", READY), 7, (7,))
    assert answer.accelerator.name == "tcg"
    assert set(answer.tried.values()) == {"works", "/dev/kvm is closed to QEMU's user 7"}


def test_a_host_on_which_nothing_boots_is_an_error(programs, monkeypatch):
    monkeypatch.setattr(accel, "usable_kvm_node", lambda *_: "")
    with pytest.raises(InfrastructureError, match=r"no accelerator boots .*QEMU ended with status 9"):
        accel.find(programs("exit 9", "exit 9"), 0, (0,))


def test_an_initramfs_unpacks_with_the_right_modes(tmp_path):
    initramfs.write(tmp_path / "initrd", {"init": b"#!/bin/sh\n", "etc/x": b"y"})
    subprocess.run(
        ["cpio", "-id", "--quiet"], cwd=tmp_path, input=(tmp_path / "initrd").read_bytes(), check=True
    )
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/busybox").stat().st_mode & 0o111
    assert (tmp_path / "etc/x").read_bytes() == b"y"
    assert (tmp_path / "dev").is_dir()


def test_the_doctor_names_the_packages_that_are_missing(monkeypatch):
    monkeypatch.setattr(
        doctor.shutil, "which", lambda program: None if program == "tini" else f"/bin/{program}"
    )
    (finding,) = doctor._programs()
    assert not finding.ok
    assert finding.remedy == "apt-get install tini"


def test_the_doctor_mends_what_is_safe_and_looks_again(monkeypatch):
    mended = []
    monkeypatch.setattr(doctor, "examine", lambda: [HostFinding("x", bool(mended), "again")])
    after = doctor.mend(
        [HostFinding("x", False, "bad", mend=lambda: mended.append(1)), HostFinding("y", False, "no way")]
    )
    assert mended == [1]
    assert [finding.ok for finding in after] == [True]


def test_the_doctor_speaks_json():
    done = subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", "doctor", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    findings = {row["name"]: row for row in json.loads(done.stdout)}
    assert {"programs", "disk", "memory", "kvm device"} <= set(findings)
    assert all(row["ok"] or row["remedy"] or not row["required"] for row in findings.values())


def test_a_kvm_device_is_usable_by_its_owner_group_or_all(monkeypatch, tmp_path):
    class Node:
        def __init__(self, mode, uid, gid):
            self.st_mode, self.st_uid, self.st_gid = mode, uid, gid

    def look(node, uid, groups):
        monkeypatch.setattr(Path, "exists", lambda _self: True)
        monkeypatch.setattr(Path, "stat", lambda _self: node)
        try:
            return accel.usable_kvm_node(uid, groups)
        finally:
            monkeypatch.undo()

    assert look(Node(0o600, 0, 0), 64055, (64055, 108)).startswith(
        "/dev/kvm (owner 0:0, mode 0600) is closed"
    )
    assert look(Node(0o660, 0, 108), 64055, (64055, 108)) == ""
    assert look(Node(0o666, 0, 0), 64055, (64055,)) == ""
    assert look(Node(0o600, 0, 0), 0, (0,)) == ""
