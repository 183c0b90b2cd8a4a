"""A cache with one image and one golden snapshot on it, small and real: qcow2 disks, holes, private files."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from harness.host import cache
from harness.machine import accel
from harness.vm import golden

IMAGE, SNAPSHOT = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba98"
MIB = 1 << 20
HERE = {"maker": "m1", "qemu": "7002000", "technique": "shared-ram", "accelerator": "tcg", "processor": "any"}
FACTS = {
    "release": "4.21", "template": "4.20.2", "debian": 12, "kind": "slim", "stand_in": False, "signature": "",
    "kernel_version": "6.1", "root_device": "/dev/vda1", "base": "", "size": MIB, "packages": 1,
}  # fmt: skip


def qcow2(path, *options):
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), "1M"], check=True)


def make_image(key=IMAGE, seed=1, mib=5):
    """Make an image in the cache; returns its folder."""

    def fill(folder):
        qcow2(folder / "disk.qcow2")
        with (folder / "disk.qcow2").open("ab") as file:
            file.write(random.Random(seed).randbytes(mib * MIB))
        (folder / "vmlinuz").write_bytes(b"kernel")
        (folder / "initrd.img").write_bytes(b"initramfs")
        (folder / "modules").mkdir()
        (folder / "modules" / "00-virtio.ko").write_bytes(b"module")
        digest = hashlib.sha256((folder / "disk.qcow2").read_bytes()).hexdigest()
        (folder / "image.json").write_text(json.dumps({**FACTS, "digest": digest}))

    return cache.obtain("images", key, fill)


def make_golden(image, key=SNAPSHOT, *, here=HERE, seed=2, size=MIB):
    """Make a golden snapshot in the cache; returns its folder."""

    def make(folder):
        with (folder / "system.ram").open("wb") as file:
            file.truncate(64 * MIB)
            for place in (0, 17 * MIB, 39 * MIB + 4096):
                file.seek(place)
                file.write(random.Random(seed + place).randbytes(size))
        (folder / "system.ram").chmod(0o600)
        (folder / "system.state").write_bytes(random.Random(seed).randbytes(100_000))
        qcow2(folder / "system.qcow2", "-F", "qcow2", "-b", str(image / "disk.qcow2"))
        qcow2(folder / "system.overlay", "-F", "qcow2", "-b", str(folder / "system.qcow2"))
        (folder / "id_ecdsa").write_text("a private key")
        (folder / "id_ecdsa").chmod(0o600)
        needs = [str(image / name) for name in ("disk.qcow2", "vmlinuz", "initrd.img")]
        return {"release": "4.21", "type": "router", "needs": needs}

    digest = json.loads((image / "image.json").read_text())["digest"]
    return golden.get(key, make, {**here, "image": digest, "network": "n" * 500}).folder


def contents(folder):
    """Return what an entry holds that does not depend on where it lies."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".overlay", ".qcow2") and path.name != "golden.json"
    }


def backing(disk):
    """Return what a disk stands on."""
    told = subprocess.run(
        ["qemu-img", "info", "--output=json", str(disk)], check=True, capture_output=True, text=True
    )
    return json.loads(told.stdout).get("backing-filename")


def flip(path, offset, *, keep_time=True):
    """Flip one bit of a file, without a trace in its size and time."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 4]))
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def be_a_host(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    """Be a host with an emulator that can use the sample's snapshot; libvirt's own driver for tests stands for its."""
    monkeypatch.setenv("SYSVM_LIBVIRT_URI", "test:///default")
    monkeypatch.setenv("SYSVM_SNAPSHOTS", "shared-ram")
    monkeypatch.setenv("SYSVM_STATE", str(state))
    monkeypatch.setattr(accel, "of_template", lambda *_: accel.Answer(accel.TCG, "", {}, 0.0))
    monkeypatch.setattr("harness.host.hypervisor.Hypervisor.version", lambda _: "7002000")
