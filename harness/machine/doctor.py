"""What this machine needs for the harness, checked by doing it; each finding says what to do."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bundle import programs
from bundle.errors import InfrastructureError, SysvmError
from harness.host import accounts

PROGRAMS = {
    program: programs.PACKAGES[program]
    for program in (
        "qemu-system-x86_64", "qemu-img", "libvirtd", "virtlogd", "tini", "mmdebstrap", "mke2fs", "busybox",
        "ssh-keygen", "openssl", "cpio",
    )
}  # fmt: skip
QEMU_USER = "libvirt-qemu"
DISK_GIB = 6
MEMORY_MIB = 2048
CAPABILITIES_LIMIT = 5.0


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: the check.
        ok: nothing to do.
        required: the harness cannot work without it; else it is only slower.
        text: one line.
        remedy: what to do, or empty.
        mend: does the remedy, when that is safe.
    """

    name: str
    ok: bool
    text: str
    remedy: str = ""
    required: bool = True
    mend: Callable[[], None] | None = None


def examine() -> list[Finding]:
    """Run all checks, in the order in which a person should mend."""
    findings = [*_programs(), _disk(), _memory(), _kvm_node()]
    if all(f.ok for f in findings if f.name == "programs"):
        findings += _libvirt()
    return findings


def _programs() -> list[Finding]:
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if not missing:
        return [Finding("programs", True, f"all {len(PROGRAMS)} programs are installed")]
    packages = " ".join(sorted(missing))
    return [Finding("programs", False, f"packages are missing: {packages}", f"apt-get install {packages}")]


def _disk() -> Finding:
    from harness.host.cache import cache_root

    root = cache_root()
    free = shutil.disk_usage(root).free >> 30
    remedy = "" if free >= DISK_GIB else "free some, run 'sysvm cache gc', or set SYSVM_CACHE"
    return Finding("disk", free >= DISK_GIB, f"{root}: {free} GiB free, {DISK_GIB} needed", remedy)


def _memory() -> Finding:
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) >> 10
    remedy = "" if available >= MEMORY_MIB else "stop something, or run with fewer machines at once"
    return Finding(
        "memory", available >= MEMORY_MIB, f"{available} MiB available, {MEMORY_MIB} needed", remedy
    )


def _qemu_ids() -> tuple[int, tuple[int, ...]]:
    if os.geteuid() != 0:
        return os.geteuid(), accounts.groups_of(os.geteuid(), os.getegid())
    try:
        user = pwd.getpwnam(QEMU_USER)
    except KeyError:
        return 0, (0,)
    return user.pw_uid, accounts.groups_of(user.pw_uid, user.pw_gid)


def _kvm_node() -> Finding:
    from harness.machine.accel import usable_kvm_node

    node = Path("/dev/kvm")
    if not node.exists():
        return Finding(
            "kvm device", False, "/dev/kvm does not exist: guests run under TCG, some ten times slower",
            "enable virtualisation in the firmware or in the outer hypervisor", required=False,
        )  # fmt: skip
    closed = usable_kvm_node(*_qemu_ids())
    if not closed:
        return Finding("kvm device", True, "/dev/kvm is open to QEMU's user")
    # Worse than slow: libvirt probes QEMU as that user, finds KVM gone, and probes again at every call.
    return Finding(
        "kvm device", False, f"{closed}; libvirt then re-probes QEMU on every call and a start takes over a minute",
        "chgrp kvm /dev/kvm && chmod 0660 /dev/kvm, as Debian's udev rule does", mend=_open_kvm,
    )  # fmt: skip


def _open_kvm() -> None:
    try:
        group = grp.getgrnam("kvm").gr_gid
    except KeyError:
        raise InfrastructureError(
            "there is no group kvm to give /dev/kvm to",
            hint="the package udev makes it: apt-get install udev",
        ) from None
    os.chown("/dev/kvm", -1, group)
    Path("/dev/kvm").chmod(0o660)


def _libvirt() -> list[Finding]:
    try:
        from harness.host.hypervisor import hypervisor
    except ModuleNotFoundError as error:
        return [_without(error)]
    from harness.machine.domain import EMULATOR

    try:
        with hypervisor() as host:
            where = f"{host.uri} (QEMU runs as {host.uid}:{host.gid})"
            findings = [Finding("libvirt", True, f"answers at {where}")]
            host.connection.getDomainCapabilities(EMULATOR, None, None, "qemu", 0)
            started = time.monotonic()
            host.connection.getDomainCapabilities(EMULATOR, None, None, "qemu", 0)
            seconds = time.monotonic() - started
            quick = seconds < CAPABILITIES_LIMIT
            remedy = (
                "" if quick else "see the kvm device above; then remove /var/cache/libvirt/qemu/capabilities"
            )
            findings.append(
                Finding(
                    "libvirt probing", quick, f"capabilities of QEMU, asked again: {seconds:.2f} s", remedy
                )
            )
            findings.append(_acceleration(host.uid, host.groups))
    except SysvmError as error:
        return [
            Finding("libvirt", False, str(error), "start libvirtd, or run as root so that one can be started")
        ]
    return findings


def _without(error: ModuleNotFoundError) -> Finding:
    return Finding(
        "libvirt",
        False,
        f"the Python module {error.name} is not installed",
        "pip install 'sysvm-livepatch[harness]'",
    )


def _acceleration(uid: int, groups: tuple[int, ...]) -> Finding:
    from harness.image import list_images
    from harness.machine import accel

    images = list_images()
    if not images:
        return Finding(
            "acceleration", True, "not probed yet: the first template image brings the kernel", required=False
        )
    answer = accel.of_template(images[0], uid, groups)
    return Finding("acceleration", True, f"{answer.accelerator.name}: {answer.reason}", required=False)


def mend(findings: list[Finding]) -> list[Finding]:
    """Do what can be done safely; returns the findings of a new examination."""
    for finding in findings:
        if not finding.ok and finding.mend is not None:
            finding.mend()
    return examine()
