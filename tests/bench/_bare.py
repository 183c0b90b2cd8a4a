"""A rival: plain QEMU with the same image, devices that matter for the time of a boot, and no libvirt."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from harness.image import Image
from harness.machine.accel import TCG
from harness.machine.disks import make_overlay
from harness.vm.engine import VCPUS
from harness.vm.launch import kernel_arguments
from tests.bench._agent import Agent


class BareVm:
    """A guest under plain QEMU; use as a context."""

    def __init__(self, image: Image, memory_mib: int) -> None:
        """Remember what to boot."""
        self._image, self._memory = image, memory_mib

    def __enter__(self) -> BareVm:
        """Start QEMU."""
        self._scratch = tempfile.TemporaryDirectory(prefix="sysvm-bare-")
        self.folder = Path(self._scratch.name)
        self.console = self.folder / "console.log"
        self.agent = Agent(self.folder / "agent.sock")
        disk = self.folder / "disk.qcow2"
        make_overlay(self._image.path, disk)
        command = [
            "qemu-system-x86_64", "-machine", "pc,accel=tcg", "-cpu", "qemu64", "-smp", str(VCPUS),
            "-m", str(self._memory), "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd),
            "-append", kernel_arguments(self._image, TCG),
            "-drive", f"file={disk},if=virtio,format=qcow2,cache=none", "-serial", f"file:{self.console}",
            "-device", "virtio-serial-pci", *self.agent.arguments(),
        ]  # fmt: skip
        for index in range(3):
            command += [
                "-netdev",
                f"user,id=n{index},restrict=on",
                "-device",
                f"virtio-net-pci,netdev=n{index},romfile=",
            ]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop QEMU and remove what it had."""
        self._process.kill()
        self._process.wait()
        self._scratch.cleanup()
