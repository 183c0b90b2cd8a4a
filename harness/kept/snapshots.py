"""Snapshots that a person takes of a kept VM: memory, devices and disk of everything, under a name.

Unlike a golden snapshot its RAM is a full copy inside the state, since the VM that it is taken of goes on with its own.
Its disk is an overlay on the golden one, which the cache therefore keeps.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bundle import catalogue, programs
from bundle.errors import InfrastructureError, UsageError
from harness.host import cache, locks, runtime
from harness.host.hypervisor import Hypervisor, hypervisor
from harness.kept import start, stop
from harness.kept.listing import KeptVm, all_kept, check_name
from harness.lab.lab import Lab
from harness.lab.subject import Subject
from harness.lab.wish import Wish
from harness.machine.disks import work_folder
from harness.machine.machine import Machine, attach
from harness.vm.frozen import SYSTEM
from harness.vm.golden import KEY_NAME
from harness.vm.system import SystemVm

_FACTS = "snapshot.json"
_MOST_FAILED = 10  # of 0.4 GB each
# What every machine that is started from a folder looks for there, apart from memory, devices and disk.
_COMPANIONS = (KEY_NAME, f"{KEY_NAME}.pub", "tenant-*.initrd", "*.iso", "*.pem")


@dataclass(frozen=True)
class VmSnapshot:
    """One of a person's snapshots.

    Attributes:
        name: what the person calls it.
        vm: the VM that it was taken of.
        vm_type: its type.
        release: what it ran when it was started.
        debian: as in ``KeptVm``.
        network: as in ``KeptVm``.
        template: as in ``KeptVm``.
        golden: as in ``KeptVm``.
        taken: when, UTC.
        from_source: the checkout that template and boot bundle are built from, if they are.
        from_bundle: the bundle that it booted with, if another than the reference payload's.
    """

    name: str
    vm: str
    vm_type: str
    release: str
    debian: int | None
    network: str | None
    template: str | None
    golden: str
    taken: str
    from_source: str | None = None
    from_bundle: str | None = None

    @property
    def folder(self) -> Path:
        """The snapshot's place in the cache."""
        return cache.entry(cache.SNAPSHOTS, self.name)

    def booted(self) -> Subject:
        """Return what it booted with."""
        tree, bundle = (Path(path) if path else None for path in (self.from_source, self.from_bundle))
        return Subject(from_source=tree, from_bundle=bundle)


def take(kept: KeptVm, name: str | None = None) -> VmSnapshot:
    """Take a snapshot of a kept VM, which stands still meanwhile and then goes on.

    Args:
        kept: the VM.
        name: what to call it; its own name and a number without one.

    Raises:
        UsageError: the name is taken or unusable, or the VM is one of which nothing but its machine is left.
        InfrastructureError: the VM is gone, or the disk is full: nothing of the snapshot remains.
    """
    if not kept.source:
        raise UsageError(f"{kept.name} came up with no snapshot, so that there is none to take of it")
    facts = VmSnapshot(
        _free_name(kept.name, name), kept.name, kept.vm_type, kept.release, kept.debian, kept.network, kept.template,
        kept.golden, _now(),
    )  # fmt: skip
    run = Path(kept.folder).parent
    disk = work_folder(kept.run) / f"{kept.name}.qcow2"
    with hypervisor() as host:
        machines = {SYSTEM: attach(host, kept.domain(), Path(kept.folder))}
        for tenant in kept.tenants:
            machines[tenant] = attach(host, kept.domain(tenant), run / f"{kept.name}-{tenant}")
        _store(facts, host, machines, disk, Path(kept.source))
    return facts


def take_failed(lab: Lab, vm: SystemVm) -> VmSnapshot:
    """Take a snapshot of a VM of a scenario that failed; it is called ``failed-`` and type and number.

    Args:
        lab: what the VM is a copy of.
        vm: the VM, which stands still meanwhile.

    Raises:
        UsageError: so many are there already that a person should look at them first.
        InfrastructureError: the VM is gone, or the disk is full: nothing of the snapshot remains.
    """
    wish, name = lab.wish, f"failed-{lab.wish.vm_type}"
    booted = [
        str(path.absolute()) if path else None
        for path in (wish.subject.from_source, wish.subject.from_bundle)
    ]
    with locks.exclusive(runtime.state_root() / "failed.lock"):  # of two workers each has a name of its own
        if sum(snapshot.vm.startswith("failed-") for snapshot in every()) >= _MOST_FAILED:
            raise UsageError(
                f"{_MOST_FAILED} VMs of failed scenarios are kept already",
                hint="'sysvm vm list' names them, 'sysvm vm forget' removes them",
            )
        facts = VmSnapshot(
            _free_name(name, None), name, wish.vm_type, wish.from_release, wish.debian, wish.network, wish.template,
            lab.golden.folder.name, _now(), *booted,
        )  # fmt: skip
        # As anybody attaches to them: what a scenario starts may have its RAM in a file, a snapshot's state has it all.
        machines = {
            name: attach(lab.host, machine.name, machine.folder)
            for name, machine in {SYSTEM: vm.machine, **vm.tenant_machines}.items()
        }
        _store(facts, lab.host, machines, vm.overlays[0], lab.golden.folder)
    return facts


def _free_name(vm: str, name: str | None) -> str:
    """Return the name of a new snapshot: as named, else the VM's with a number.

    Raises:
        UsageError: the name is taken or unusable.
    """
    taken = {snapshot.name for snapshot in every()}
    chosen = name or next(
        word for number in range(1, len(taken) + 2) if (word := f"{vm}-{number}") not in taken
    )
    check_name(chosen)
    if chosen in taken:
        raise UsageError(
            f"a snapshot named {chosen!r} is there already", hint=f"'sysvm vm forget {chosen}' removes it"
        )
    return chosen


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _store(
    facts: VmSnapshot, host: Hypervisor, machines: dict[str, Machine], disk: Path, source: Path
) -> None:
    """Write what machines are, the system VM's first, into the snapshot's place; they go on afterwards."""
    cache.obtain(
        cache.SNAPSHOTS, facts.name, lambda folder: _fill(folder, facts, host, machines, disk, source)
    )


def _fill(
    folder: Path, facts: VmSnapshot, host: Hypervisor, machines: dict[str, Machine], disk: Path, source: Path
) -> None:
    folder.chmod(0o711)  # QEMU's user passes through
    try:
        for machine in machines.values():
            machine.pause()
        for name, machine in machines.items():
            machine.save_state(folder / f"{name}.state")
        _copy(disk, folder / f"{SYSTEM}.qcow2")
    except OSError as error:
        raise InfrastructureError(f"snapshot {facts.name}: {error.strerror}: {folder}") from None
    finally:
        _go_on(machines)
    for pattern in _COMPANIONS:
        for file in source.glob(pattern):
            # Without extended attributes: libvirt notes there who has the original in use.
            shutil.copyfile(file, folder / file.name)
            shutil.copymode(file, folder / file.name)
    for path in folder.glob(f"{SYSTEM}.*"):
        os.chown(path, host.uid, host.gid)
    (folder / _FACTS).write_text(json.dumps(asdict(facts), indent=1))


def _copy(source: Path, target: Path) -> None:
    """Copy a disk, sharing its blocks where the file system can and leaving its holes."""
    command = ["cp", "--reflink=auto", "--sparse=always", "--", str(source), str(target)]
    programs.run(command, what="copy the disk")


def _go_on(machines: dict[str, Machine]) -> None:
    for machine in machines.values():
        if machine.alive():
            machine.resume()


def every() -> list[VmSnapshot]:
    """Return all snapshots, by name."""
    return [VmSnapshot(**json.loads((path / _FACTS).read_text())) for path in cache.entries(cache.SNAPSHOTS)]


def forget(name: str) -> None:
    """Remove a snapshot.

    Raises:
        UsageError: there is none of that name.
    """
    cache.discard(cache.SNAPSHOTS, find(name).name)


def find(name: str) -> VmSnapshot:
    """Return the snapshot of that name, or the latest of the VM of that name.

    Raises:
        UsageError: there is neither.
    """
    there = every()
    named = [snapshot for snapshot in there if snapshot.name == name]
    of_vm = sorted((snapshot for snapshot in there if snapshot.vm == name), key=lambda one: one.taken)
    if found := named or of_vm[-1:]:
        return found[0]
    known = ", ".join(snapshot.name for snapshot in there) or "none"
    raise UsageError(f"no snapshot {name!r} (there is {known})", hint="'sysvm vm snapshot VM' takes one")


def restore(snapshot: VmSnapshot, name: str | None = None, network_backend: str | None = None) -> KeptVm:
    """Start a kept VM from a snapshot.

    Args:
        snapshot: which.
        name: what to call the VM. Without one it is called as the VM that the snapshot was taken of, which is put back:
            what it became since then is gone.
        network_backend: as in ``backends.find``; need not be that of the VM.

    Raises:
        UsageError: the name is taken.
        InfrastructureError: the snapshot cannot be restored any more.
    """
    facts = catalogue.load()
    wish = Wish(
        snapshot.vm_type, snapshot.release, facts.default, snapshot.debian, snapshot.network, snapshot.booted(),
        template=snapshot.template, network_backend=network_backend,
    )  # fmt: skip

    def copy(lab: Lab, called: str) -> tuple[SystemVm, Path]:
        if lab.golden.folder.name != snapshot.golden:
            raise InfrastructureError(
                f"snapshot {snapshot.name} belongs to another payload, network or QEMU than today's",
                hint=f"'sysvm vm forget {snapshot.name}' removes it",
            )
        engine = replace(lab.engine, technique="full-copy")
        return engine.restore(
            called, lab.plan, lab.image, snapshot.folder / KEY_NAME, snapshot.folder
        ), snapshot.folder

    if name is None:
        for kept in all_kept():
            if kept.name == snapshot.vm:
                stop.stop(kept)
    return start.start(name or snapshot.vm, wish, copy)
