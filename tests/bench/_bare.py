"""A rival: plain QEMU with the same image, devices that matter for the time of a boot, and no libvirt."""

from __future__ import annotations

import base64
import itertools
import json
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, cast

from harness import wait
from harness.accel import TCG
from harness.disks import make_overlay
from harness.engine import VCPUS, kernel_arguments
from harness.image import Image

AGENT = "org.qemu.guest_agent.0"


class BareVm:
    """A guest under plain QEMU; use as a context."""

    def __init__(self, image: Image, memory_mib: int) -> None:
        """Remember what to boot."""
        self._image, self._memory = image, memory_mib
        self._marks = itertools.count(1)

    def __enter__(self) -> BareVm:
        """Start QEMU."""
        self._scratch = tempfile.TemporaryDirectory(prefix="sysvm-bare-")
        self.folder = Path(self._scratch.name)
        self.console = self.folder / "console.log"
        disk = self.folder / "disk.qcow2"
        make_overlay(self._image.path, disk)
        command = [
            "qemu-system-x86_64", "-machine", "pc,accel=tcg", "-cpu", "qemu64", "-smp", str(VCPUS),
            "-m", str(self._memory), "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd),
            "-append", kernel_arguments(self._image, TCG),
            "-drive", f"file={disk},if=virtio,format=qcow2,cache=none", "-serial", f"file:{self.console}",
            "-device", "virtio-serial-pci", "-device", f"virtserialport,chardev=agent,name={AGENT}",
            "-chardev", f"socket,id=agent,path={self.folder}/agent.sock,server=on,wait=off",
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

    def deliver(self, path: str, content: bytes, deadline: float) -> None:
        """Write a file through the guest agent, once that answers."""
        wait.until(self._answers, "the guest agent", deadline, tick=0.05)
        with self._line(10.0) as line:
            self._synchronise(line)
            handle = self._ask(line, "guest-file-open", path=path, mode="w+")
            encoded = base64.b64encode(content).decode()
            self._ask(line, "guest-file-write", **{"handle": handle, "buf-b64": encoded})
            self._ask(line, "guest-file-close", handle=handle)

    def _answers(self) -> bool:
        """Ask on a line of its own: what an agent that is not there yet leaves unread goes with the line."""
        try:
            with self._line(0.5) as line:
                self._synchronise(line)
        except OSError:
            return False
        return True

    def _line(self, patience: float) -> BinaryIO:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(patience)
            line.connect(f"{self.folder}/agent.sock")
            return cast(BinaryIO, line.makefile("rwb", buffering=0))

    def _synchronise(self, line: BinaryIO) -> None:
        """Skip the answers to questions of earlier lines."""
        mark = next(self._marks)
        answer = self._ask(line, "guest-sync", id=mark)
        while answer != mark:
            answer = self._answer(line)

    def _ask(self, line: BinaryIO, command: str, **arguments: object) -> Any:
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        line.write(json.dumps(request).encode() + b"\n")
        return self._answer(line)

    @staticmethod
    def _answer(line: BinaryIO) -> Any:
        text = line.readline()
        if not text:
            raise ConnectionError("QEMU has closed the agent's socket")
        return json.loads(text)["return"]

    def __exit__(self, *_: object) -> None:
        """Stop QEMU and remove what it had."""
        self._process.kill()
        self._process.wait()
        self._scratch.cleanup()
