"""Needs of the harness on this machine, checked by doing it; each finding says what to do."""

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
class HostFinding:
    """The finding of one check of this machine.

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


def examine() -> list[HostFinding]:
    """Run all checks, in the order in which a person should mend."""
    findings = [*_programs(), _disk(), _memory(), _kvm_node()]
    if all(f.ok for f in findings if f.name == "programs"):
        findings += _libvirt()
    return findings


def _programs() -> list[HostFinding]:
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if not missing:
        return [HostFinding("programs", True, f"all {len(PROGRAMS)} programs are installed")]
    packages = " ".join(sorted(missing))
    return [
        HostFinding("programs", False, f"packages are missing: {packages}", f"apt-get install {packages}")
    ]


def _disk() -> HostFinding:
    from harness.host.cache import cache_root

    root = cache_root()
    free = shutil.disk_usage(root).free >> 30
    remedy = "" if free >= DISK_GIB else "free some, run 'sysvm cache gc', or set SYSVM_CACHE"
    return HostFinding("disk", free >= DISK_GIB, f"{root}: {free} GiB free, {DISK_GIB} needed", remedy)


def _memory() -> HostFinding:
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) >> 10
    remedy = "" if available >= MEMORY_MIB else "stop something, or run with fewer machines at once"
    return HostFinding(
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


def _kvm_node() -> HostFinding:
    from harness.machine.accel import usable_kvm_node

    node = Path("/dev/kvm")
    if not node.exists():
        return HostFinding(
            "kvm device", False, "/dev/kvm does not exist: guests run under TCG, some ten times slower",
            "enable virtualisation in the firmware or in the outer hypervisor", required=False,
        )  # fmt: skip
    closed = usable_kvm_node(*_qemu_ids())
    if not closed:
        return HostFinding("kvm device", True, "/dev/kvm is open to QEMU's user")
    # Worse than slow: libvirt probes QEMU as that user, finds KVM gone, and probes again at every call.
    return HostFinding(
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


def _libvirt() -> list[HostFinding]:
    try:
        from harness.host.hypervisor import hypervisor
    except ModuleNotFoundError as error:
        return [_without(error)]
    from harness.machine.domain import EMULATOR

    try:
        with hypervisor() as host:
            where = f"{host.uri} (QEMU runs as {host.uid}:{host.gid})"
            findings = [HostFinding("libvirt", True, f"answers at {where}")]
            host.connection.getDomainCapabilities(EMULATOR, None, None, "qemu", 0)
            started = time.monotonic()
            host.connection.getDomainCapabilities(EMULATOR, None, None, "qemu", 0)
            seconds = time.monotonic() - started
            quick = seconds < CAPABILITIES_LIMIT
            remedy = (
                "" if quick else "see the kvm device above; then remove /var/cache/libvirt/qemu/capabilities"
            )
            findings.append(
                HostFinding(
                    "libvirt probing", quick, f"capabilities of QEMU, asked again: {seconds:.2f} s", remedy
                )
            )
            findings.append(_acceleration(host.uid, host.groups))
    except SysvmError as error:
        return [
            HostFinding(
                "libvirt", False, str(error), "start libvirtd, or run as root so that one can be started"
            )
        ]
    return findings


def _without(error: ModuleNotFoundError) -> HostFinding:
    return HostFinding(
        "libvirt",
        False,
        f"the Python module {error.name} is not installed",
        "pip install 'sysvm-livepatch[harness]'",
    )


def _acceleration(uid: int, groups: tuple[int, ...]) -> HostFinding:
    from harness.image import list_images
    from harness.machine import accel

    images = list_images()
    if not images:
        return HostFinding(
            "acceleration", True, "not probed yet: the first template image brings the kernel", required=False
        )
    answer = accel.of_template(images[0], uid, groups)
    return HostFinding("acceleration", True, f"{answer.accelerator.name}: {answer.reason}", required=False)


def mend(findings: list[HostFinding]) -> list[HostFinding]:
    """Do what can be done safely; returns the findings of a new examination."""
    for finding in findings:
        if not finding.ok and finding.mend is not None:
            finding.mend()
    return examine()
