"""The accelerator that really runs a guest here: proved by booting a kernel, never assumed.

``/dev/kvm`` may open and even create a VM, and still never run a 64-bit guest (nested virtualisation): its kernel
prints a line and hangs. So each candidate boots the real kernel with an initramfs that prints one word; the first in
order of preference that printed it wins. All candidates run side by side: the answer takes as long as the slowest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundle import files, programs
from bundle.errors import InfrastructureError
from harness.host import locks
from harness.host.cache import cache_root
from harness.image import initramfs

if TYPE_CHECKING:
    from harness.image import Image

READY = b"SYSVM-PROBE-READY"
KVM_LIMIT = 8.0
TCG_LIMIT = 60.0
_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox echo %s >/dev/ttyS0
/bin/busybox poweroff -f
"""


@dataclass(frozen=True)
class Accelerator:
    """A way to run guests, as QEMU's ``-accel``/``-cpu`` and as libvirt's domain type and CPU."""

    name: str
    domain_type: str
    cpu: str
    qemu_cpu: str
    disabled_features: tuple[str, ...] = ()

    @property
    def kernel_arguments(self) -> str:
        """Arguments of a guest's kernel for this accelerator's sake (docs/adr/0007-addresses-that-stay.md)."""
        return "norandmaps" if self.domain_type == "qemu" else ""

    @property
    def system_arguments(self) -> str:
        """Further arguments of a system VM's kernel (docs/adr/0009-logins-without-a-second-exec.md).

        sshd is not to execute itself again for each login: an emulated guest pays 0.2 s for that.
        """
        return f"{self.kernel_arguments} systemd.setenv=SSHD_OPTS=-r" if self.domain_type == "qemu" else ""


TCG = Accelerator("tcg", "qemu", "qemu64", "qemu64")
KVM_CANDIDATES = (
    Accelerator("kvm", "kvm", "host-model", "host"),
    Accelerator(
        "kvm-no-arch-capabilities", "kvm", "host-model", "host,arch-capabilities=off", ("arch-capabilities",)
    ),
    Accelerator("kvm-named-model", "kvm", "qemu64", "qemu64"),
)


@dataclass(frozen=True)
class Answer:
    """The probe's answer.

    Attributes:
        accelerator: the best that works.
        reason: one line for a person.
        tried: name of each candidate and what became of it.
        seconds: how long the probe took.
    """

    accelerator: Accelerator
    reason: str
    tried: dict[str, str]
    seconds: float


def usable_kvm_node(uid: int, groups: tuple[int, ...]) -> str:
    """Say in one line why QEMU's user cannot open ``/dev/kvm``; empty when it can."""
    node = Path("/dev/kvm")
    if not node.exists():
        return "/dev/kvm does not exist"
    facts = node.stat()
    mode = facts.st_mode
    if uid == 0 or (mode & 0o006) == 0o006 or (facts.st_uid == uid and (mode & 0o600) == 0o600):
        return ""
    if facts.st_gid in groups and (mode & 0o060) == 0o060:
        return ""
    owner = f"owner {facts.st_uid}:{facts.st_gid}, mode {mode & 0o777:04o}"
    return f"/dev/kvm ({owner}) is closed to QEMU's user {uid} (groups {', '.join(map(str, groups))})"


def of_template(template: Image, uid: int, groups: tuple[int, ...]) -> Answer:
    """Return the best accelerator for a template; software emulation for one whose kernel nobody could take out."""
    if template.direct_boot:
        return find(template.kernel, uid, groups)
    return Answer(TCG, "using TCG (software emulation): the template has no kernel to try KVM with", {}, 0.0)


def find(kernel: Path, uid: int, groups: tuple[int, ...]) -> Answer:
    """Return the best accelerator for ``kernel``; cached per host, kernel and QEMU.

    Args:
        kernel: a bootable 64-bit kernel, readable by QEMU.
        uid: user that QEMU will run as.
        groups: its groups.

    Raises:
        InfrastructureError: not even TCG boots the kernel.
    """
    closed = usable_kvm_node(uid, groups)
    key = _key(kernel, closed)
    path = cache_root() / "accel" / f"{key}.json"
    with locks.exclusive(cache_root() / "accel" / "lock"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            return _load(path)
        answer = _probe(kernel, closed)
        files.write(path, json.dumps(asdict(answer), indent=1))
    return answer


def _load(path: Path) -> Answer:
    document = json.loads(path.read_text())
    accelerator = document.pop("accelerator")
    accelerator["disabled_features"] = tuple(accelerator["disabled_features"])
    return Answer(accelerator=Accelerator(**accelerator), **document)


def processor(accelerator: Accelerator, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return what a running guest depends on of the host's processor; an emulated one depends on nothing of it."""
    if accelerator.domain_type == "qemu":
        return "any"
    flags = hashlib.sha256(_of_cpu("flags", cpuinfo).encode()).hexdigest()[:16]
    return f"{_of_cpu('model name', cpuinfo).partition(':')[2].strip()}, flags {flags}"


def _of_cpu(word: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the line of the first processor that begins with a word, or nothing."""
    return next((line for line in cpuinfo.read_text().splitlines() if line.startswith(word)), "")


def _key(kernel: Path, closed: str) -> str:
    version = programs.run(["qemu-system-x86_64", "--version"], what="ask QEMU for its version").stdout
    cpu = _of_cpu("model name")
    digest = hashlib.sha256(kernel.read_bytes())
    digest.update("\0".join([version, cpu, platform.release(), platform.node(), closed]).encode())
    return digest.hexdigest()[:24]


def _probe(kernel: Path, closed: str) -> Answer:
    started = time.monotonic()
    tried = {}
    with tempfile.TemporaryDirectory(prefix="sysvm-probe-") as folder:
        initrd = Path(folder) / "initrd"
        initramfs.write(initrd, {"init": (_INIT % READY.decode()).encode()})
        if closed:
            tried = {candidate.name: closed for candidate in KVM_CANDIDATES}
        else:
            tried = _race(kernel, initrd, KVM_CANDIDATES, KVM_LIMIT)
        for candidate in KVM_CANDIDATES:
            if tried[candidate.name] == "works":
                return Answer(candidate, "KVM boots a guest here", tried, time.monotonic() - started)
        tried |= _race(kernel, initrd, (TCG,), TCG_LIMIT)
    if tried["tcg"] != "works":
        raise InfrastructureError(
            f"no accelerator boots {kernel}: {tried}", hint="check the QEMU installation"
        )
    why = closed or "/dev/kvm opens, but no guest gets through its boot: " + "; ".join(
        f"{name}: {fate}" for name, fate in tried.items() if name != "tcg"
    )
    return Answer(TCG, f"using TCG (software emulation): {why}", tried, time.monotonic() - started)


def _race(kernel: Path, initrd: Path, candidates: tuple[Accelerator, ...], limit: float) -> dict[str, str]:
    """Boot all candidates at once; returns "works" or what went wrong for each."""
    running = {c.name: _start(kernel, initrd, c) for c in candidates}
    end = time.monotonic() + limit
    fates: dict[str, str] = {}
    try:
        while len(fates) < len(running) and time.monotonic() < end:
            for name, (process, console) in running.items():
                if name in fates:
                    continue
                if READY in console.read_bytes():
                    fates[name] = "works"
                elif process.poll() is not None:
                    fates[name] = f"QEMU ended with status {process.returncode}"
            if candidates[0].name in fates and fates[candidates[0].name] == "works":
                break
            time.sleep(0.05)
    finally:
        for process, console in running.values():
            process.kill()
            process.wait()
            console.unlink(missing_ok=True)
    return {name: fates.get(name, f"silent for {limit:g} s") for name in running}


def _start(kernel: Path, initrd: Path, candidate: Accelerator) -> tuple[subprocess.Popen[bytes], Path]:
    handle, console = tempfile.mkstemp(prefix="sysvm-probe-", suffix=".log")
    os.close(handle)
    accel = "tcg" if candidate.domain_type == "qemu" else "kvm"
    command = [
        "qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "pc", "-accel", accel,
        "-cpu", candidate.qemu_cpu, "-m", "256", "-smp", "2", "-no-reboot",
        "-kernel", str(kernel), "-initrd", str(initrd), "-append", "console=ttyS0 quiet panic=-1",
        "-serial", f"file:{console}",
    ]  # fmt: skip
    with programs.starting(command[0], "try what accelerates"):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    return process, Path(console)
