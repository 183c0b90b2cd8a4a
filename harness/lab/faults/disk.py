"""The disk: full, read-only, slow, or failing; the last two on the host's side, where no guest can see why."""

from __future__ import annotations

from collections.abc import Iterator

import libvirt

from harness.host.hypervisor import asking
from harness.lab.faults.outside import outside
from harness.vm.system import SystemVm

_FILLER = "/var/tmp/sysvm-filler"  # noqa: S108 - of a guest that is ours
_DRIVE = "vda"
# The kernel does it when it comes to it.
_UNTIL_READ_ONLY = "for i in $(seq 300); do grep -q ' / ext[^ ]* ro' /proc/mounts && break; sleep 0.1; done"
_TUNE = (
    "total_bytes_sec",
    "read_bytes_sec",
    "write_bytes_sec",
    "total_iops_sec",
    "read_iops_sec",
    "write_iops_sec",
)


@outside("disk.full", "the file system of a folder has almost no room left")
def full(vm: SystemVm, leave: int = 64 << 10, folder: str = "/var") -> Iterator[None]:
    """Fill the file system of a folder, until it has ``leave`` bytes free."""
    free = f"$(( $(stat -f -c '%a * %S' {folder}) - {leave} ))"
    vm.guest.run(f"fallocate -l {free} {_FILLER} && df -B1 {folder}", deadline=120)
    try:
        yield
    finally:
        vm.guest.run(f"rm -f {_FILLER} && sync", deadline=120)


@outside("disk.read-only", "every file system becomes read-only at once, as after an error of the disk")
def read_only(vm: SystemVm) -> Iterator[None]:
    """Make all file systems of disks read-only, and writable again at the end."""
    allowed = vm.guest.run("cat /proc/sys/kernel/sysrq").stdout.strip()
    vm.guest.run(
        f"echo 1 >/proc/sys/kernel/sysrq; sync; echo u >/proc/sysrq-trigger; "
        f"echo {allowed} >/proc/sys/kernel/sysrq; {_UNTIL_READ_ONLY}",
        deadline=120,
    )
    try:
        yield
    finally:
        # It was refused once, by a VM that took it the next time.
        again = (
            'n=0; until mount -o remount,rw "$where"; do [ $((n += 1)) -lt 20 ] || exit 1; sleep 0.2; done'
        )
        each = f"case $kind in ext*) {again};; esac"
        vm.guest.run(f"while read -r _ where kind _; do {each}; done </proc/mounts", deadline=120)


@outside("disk.slow", "the disk moves so many bytes a second and no more")
def slow(vm: SystemVm, rate: int = 256 << 10) -> Iterator[None]:
    """Let the disk move at most ``rate`` bytes a second."""
    _tune(vm, {"total_bytes_sec": rate})
    try:
        yield
    finally:
        _tune(vm, dict.fromkeys(_TUNE, 0))


def _tune(vm: SystemVm, values: dict[str, int]) -> None:
    with asking(f"{vm.name}: its disk cannot be slowed down"):
        vm.machine.handle.setBlockIoTune(_DRIVE, values, libvirt.VIR_DOMAIN_AFFECT_LIVE)


@outside(
    "disk.errors", "the disk answers every write with an error from a moment on; only a power cut ends it"
)
def errors(vm: SystemVm) -> Iterator[None]:
    """Put a filter in front of the disk that lets writes fail with EIO.

    The guest's file systems go read-only by themselves; so the fault's end leaves them, and the caller boots again.

    Raises:
        InfrastructureError: QEMU does not put it there.
    """
    drive = next(row for row in vm.machine.monitor("query-block") if row.get("inserted"))
    node, image = drive["inserted"]["node-name"], drive["inserted"]["image"]
    rows = vm.machine.monitor("query-named-block-nodes")
    storage = {row["file"]: row["node-name"] for row in rows if row["drv"] == "file"}
    formats = {row["file"]: row["node-name"] for row in rows if row["drv"] != "file"}
    rules = [{"event": "none", "iotype": kind, "errno": 5, "once": False} for kind in ("write", "flush")]
    below = {"image": storage[image["filename"]], "inject-error": rules}
    vm.machine.monitor("blockdev-add", **{"driver": "blkdebug", "node-name": "sysvm-errors", **below})
    options = {"driver": "qcow2", "node-name": node, "file": "sysvm-errors", "discard": "unmap"}
    if "backing-image" in image:  # QEMU wants to be told that it stays
        options["backing"] = formats[image["backing-image"]["filename"]]
    vm.machine.monitor("blockdev-reopen", options=[options])
    yield
