"""A rival: Debian's ``debvm-run``, from its start to the first command over SSH, with the same file system."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from bundle import catalogue
from bundle.errors import InfrastructureError
from harness.guest.connection import SSH_PORT
from harness.guest.guest import SshGuest
from harness.host.ports import PortReservations
from harness.image import Image, partitions
from harness.machine.accel import TCG
from harness.vm import boot
from harness.vm.cables import HostForward, UserNet
from harness.vm.engine import VCPUS
from harness.vm.launch import kernel_arguments
from harness.vm.topology import CONTROL_HOST, CONTROL_NETWORK, Topology
from tests.bench._agent import Agent

PROGRAM = "debvm-run"
PACKAGE = "debvm"
DEADLINE = 300.0


def is_there() -> bool:
    """Say whether the rival is installed."""
    return shutil.which(PROGRAM) is not None


def root_file_system(image: Image, folder: Path) -> Path:
    """Write an image's root file system to a file of its own, labelled, which is what the rival boots."""
    disk, root = folder / "disk.raw", folder / "root.ext4"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image.path), str(disk)], check=True)
    first, *others = partitions.read(disk)
    if others:
        raise InfrastructureError(
            f"{image.path} has {1 + len(others)} partitions, {PROGRAM} takes one file system"
        )
    part = f"driver=raw,offset={first.offset},size={first.size},file.driver=file,file.filename={disk}"
    subprocess.run(["qemu-img", "convert", "-O", "raw", "--image-opts", part, str(root)], check=True)
    disk.unlink()
    subprocess.run(["tune2fs", "-L", "sysvm", str(root)], check=True, stdout=subprocess.DEVNULL)
    return root


def first_answer(root: Path, image: Image, plan: Topology, key: Path) -> float:
    """Return the seconds from the start of ``debvm-run`` to a command's answer over SSH.

    It has the kernel arguments, accelerator, processors and memory of our cold boots, and as many NICs. The system VM
    waits for its boot parameters: they come through a guest-agent port. Kernel and initramfs are taken from the file
    system by the program itself, and the changes of the guest go to a snapshot.
    """
    ports = PortReservations()
    process: subprocess.Popen[bytes] | None = None
    with tempfile.TemporaryDirectory(prefix="sysvm-debvm-") as scratch:
        agent, port = Agent(Path(scratch) / "agent.sock"), ports.take()
        guest = SshGuest(PROGRAM, "127.0.0.1", port, key)
        public = key.with_suffix(".pub").read_text().strip()
        started = time.monotonic()
        try:
            process = subprocess.Popen(
                [PROGRAM, "--image", str(root), "--", *_arguments(image, plan, agent, port)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": scratch}, start_new_session=True,
            )  # fmt: skip
            agent.deliver(
                boot.CMDLINE_FILE,
                boot.normalise(plan.cmdline(public, catalogue.load().release("4.22"))).encode(),
                DEADLINE,
            )
            guest.connect(DEADLINE)
            guest.run("true")
            return time.monotonic() - started
        finally:
            guest.close()
            if process:
                # The program is a shell script, and QEMU its child.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            ports.release()


def _arguments(image: Image, plan: Topology, agent: Agent, port: int) -> list[str]:
    append = kernel_arguments(image, TCG).replace(f"root={image.root_device}", "root=/dev/vda")
    arguments = [
        "-machine", "accel=tcg", "-cpu", TCG.qemu_cpu, "-smp", str(VCPUS), "-m", str(plan.memory_mib), "-snapshot",
        "-append", append, "-device", "virtio-serial-pci", *agent.arguments(),
    ]  # fmt: skip
    # The first NIC is the program's own.
    for number, nic in enumerate(plan.nics[1:], start=1):
        net = f"user,id=n{number},restrict=on"
        if nic is plan.control:
            net = UserNet(CONTROL_NETWORK, CONTROL_HOST, (HostForward(port, nic.address, SSH_PORT),)).netdev(
                f"n{number}"
            )
        arguments += ["-netdev", net, "-device", f"virtio-net-pci,netdev=n{number},mac={nic.mac},romfile="]
    return arguments
