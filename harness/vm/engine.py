"""The VM engine: starts a system VM with its tenants, freezes it as a golden snapshot, restores as many as asked for.

A golden snapshot is, for each machine, a RAM file, a device state (everything but RAM) and a disk. A restore maps the
RAM file privately, so nothing is copied, puts an overlay on the disk, and feeds the device state to a QEMU that waits
(docs/adr/0002-golden-snapshots.md has the measurements).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.guest.guest import SshGuest
from harness.host import peaks, slots
from harness.host.hypervisor import Hypervisor
from harness.host.runtime import RuntimeFolder
from harness.image import Image
from harness.machine.accel import Accelerator
from harness.machine.disks import copy_overlay, disk_serial, make_overlay, open_work, require_room
from harness.machine.domain import AGENT_CHANNEL, DomainSpec
from harness.machine.machine import Machine
from harness.machine.moment import disk_now
from harness.machine.technique import Technique
from harness.vm.backends import NetworkBackend
from harness.vm.frozen import SYSTEM, Frozen, cd_in, frozen_in
from harness.vm.launch import Launcher, kernel_arguments, launch_all
from harness.vm.loopback import Loopback
from harness.vm.system import SystemVm, set_clock
from harness.vm.tenant import tenant as tenants
from harness.vm.tenant.tenant import Tenant
from harness.vm.tenant.tenant_domain import domain_of
from harness.vm.topology import SSH_PORT, Topology
from harness.vm.wiring import Wiring, wire

VCPUS = 2
# What a golden snapshot takes beside its RAM: about twice what the disks of the types were seen to.
SNAPSHOT_DISK_MIB = 256
# Of a restored machine's memory about this part becomes its own (40 MiB of 512 were measured idle). It counts until
# one was measured.
RESTORED_SHARE = 4


@dataclass(frozen=True)
class Engine:
    """The common part of all machines of a run.

    Attributes:
        owned: machines end with this process's connection; not so for those that a person keeps.
        technique: where the RAM of golden snapshots lies.
        network_backend: what the segments between system VMs and tenants are made of.
    """

    hypervisor: Hypervisor
    run: RuntimeFolder
    accelerator: Accelerator
    owned: bool = True
    technique: Technique = "shared-ram"
    network_backend: NetworkBackend = field(default_factory=Loopback)

    @property
    def launcher(self) -> Launcher:
        """The starter of domains."""
        return Launcher(self.hypervisor, self.run, self.owned, self.network_backend)

    def domain(self, name: str) -> str:
        """Return what a machine of this run is called on the host, and owns its segments by."""
        return self.launcher.domain(name)

    def need(self, topology: Topology, *, resume: bool) -> slots.Need:
        """Return what a system VM and its tenants take: what such machines were seen to take, else an estimate.

        One that boots may write to all its memory, whatever others did before it.
        """
        memory = topology.memory_mib + sum(spec.memory_mib for spec in topology.tenants)
        shared = resume and self.technique == "shared-ram"
        estimate = memory // RESTORED_SHARE if shared else memory
        seen = peaks.known(self.peak(topology, resume=resume))
        wanted = estimate if seen is None else seen if resume else max(seen, memory)
        return slots.Need(wanted, VCPUS + len(topology.tenants))

    def peak(self, topology: Topology, *, resume: bool) -> tuple[object, ...]:
        """Return what the memory of a system VM and its tenants depends on; see :func:`peaks.note`."""
        way = self.technique if resume else "cold"
        size = (topology.memory_mib, *(spec.memory_mib for spec in topology.tenants))
        return (topology.vm_type, *size, self.accelerator.name, way)

    def start(
        self,
        name: str,
        topology: Topology,
        image: Image,
        key: Path,
        freeze_to: Path | None,
        *,
        reserved: bool = False,
    ) -> SystemVm:
        """Start a system VM and its tenants from cold; neither is booted yet when this returns.

        Args:
            name: short name, unique in the run.
            topology: who sits where.
            image: the template.
            key: private key that will log in.
            freeze_to: existing folder of a golden snapshot in the making, or None for a VM that is not frozen. An image
                named ``CD`` in it lies in the machine's drive.
            reserved: the caller holds what it needs.
        """
        if freeze_to:
            memory = self.need(topology, resume=False).memory_mib
            require_room(freeze_to, memory + SNAPSHOT_DISK_MIB)
        frozen = self._frozen(freeze_to, SYSTEM) if freeze_to else None
        disk = frozen.disk if frozen and frozen.disk else self._work() / f"{name}.qcow2"
        make_overlay(image.path, disk)
        base = DomainSpec(
            name="", uuid="", accelerator=self.accelerator, console_socket=Path(), console_log=Path(),
            memory_mib=topology.memory_mib, vcpus=VCPUS, **self._direct_boot(image), disk=disk,
            disk_serial=disk_serial(disk), watchdog=True,
            iso=cd_in(freeze_to), ram_file=frozen.ram if frozen else None, ram_shared=True,
        )  # fmt: skip
        return self._assemble(name, topology, image, key, base, freeze_to, resume=False, reserved=reserved)

    def freeze(self, vm: SystemVm, folder: Path) -> None:
        """Write the device states of a stopped-for-good system VM and its tenants; ends the machines."""
        vm.guest.close()
        # What the guest has still to do, such as ending our session, every restore would do again.
        vm.machine.wait_idle()
        names = [SYSTEM, *vm.tenant_machines]
        vm.pause()
        restored = self.peak(vm.topology, resume=True)
        if peaks.known(restored) is None:
            # The first value: a copy that does what the boot did takes as much. Those that end tell better.
            peaks.note(restored, vm.memory_mib())
        for name, machine in zip(names, vm.machines(), strict=True):
            machine.save_state(self._frozen(folder, name).state)
            if machine.ram:
                machine.ram.keep(self.hypervisor)
        vm.overlays.clear()
        vm.stop()
        for name in names:
            frozen = self._frozen(folder, name)
            if frozen.disk and frozen.overlay:
                make_overlay(frozen.disk, frozen.overlay)
            for path in filter(None, (frozen.ram, frozen.state, frozen.disk)):
                os.chown(path, self.hypervisor.uid, self.hypervisor.gid)

    def restore(
        self, name: str, topology: Topology, image: Image, key: Path, folder: Path, *,
        patience: float = slots.DEADLINE, reserved: bool = False,
    ) -> SystemVm:  # fmt: skip
        """Return a running copy of a golden snapshot, logged in; its clock is set in front of the first command.

        Args:
            name: short name, unique in the run.
            topology: that of the snapshot.
            image: that of the snapshot.
            key: private key that logs in.
            folder: the snapshot.
            patience: seconds to wait for memory and processors.
            reserved: the caller holds what it needs.

        Raises:
            slots.NoRoom: the patience ended.
        """
        frozen = self._frozen(folder, SYSTEM)
        assert frozen.disk and frozen.overlay  # noqa: S101 - a system VM has them
        overlay = self._work() / f"{name}.qcow2"
        if frozen.overlay.exists():
            copy_overlay(frozen.overlay, overlay)
        else:  # a person's snapshot: its folder is renamed when complete, and an overlay names its disk's path
            make_overlay(frozen.disk, overlay)
        base = DomainSpec(
            name="", uuid="", accelerator=self.accelerator, console_socket=Path(), console_log=Path(),
            memory_mib=topology.memory_mib, **self._direct_boot(image), disk=overlay,
            disk_serial=disk_serial(frozen.disk), watchdog=True,
            iso=cd_in(folder), ram_file=frozen.ram, incoming=True,
        )  # fmt: skip
        try:
            vm = self._assemble(
                name, topology, image, key, base, folder, resume=True, patience=patience, reserved=reserved
            )
        except BaseException:
            overlay.unlink(missing_ok=True)
            raise
        vm.guest.precede_first(set_clock)
        return vm

    def _assemble(
        self, name: str, topology: Topology, image: Image, key: Path, base: DomainSpec,
        frozen: Path | None, *, resume: bool, patience: float = slots.DEADLINE, reserved: bool,
    ) -> SystemVm:  # fmt: skip
        """Join and launch all machines; what was taken is given back when one fails."""
        with ExitStack() as undo:
            need = self.need(topology, resume=resume)
            held = slots.Reservation() if reserved else slots.reserve(need, name, deadline=patience)
            undo.callback(held.release)
            wiring = wire(topology, self.network_backend, self.domain(name))
            undo.callback(wiring.ports.release)
            undo.callback(self.network_backend.remove, self.domain(name))
            overlays = [base.disk] if base.disk and base.disk.parent == self._work() else []
            if frozen is None:
                overlays += [self._tenant_initrd(name, spec.name, None) for spec in topology.tenants]
            undo.callback(_unlink, overlays)
            guest = SshGuest(name, "127.0.0.1", wiring.endpoints[(topology.control.address, SSH_PORT)], key)
            undo.callback(guest.close)
            # What a management server plugs in after the boot is there at once in a restored machine.
            present = len(wiring.nics) if resume else topology.present_at_boot
            system = replace(base, nics=wiring.nics[:present])
            jobs: list[Callable[[], Machine]] = [
                partial(self._launch_system, name, system, frozen, guest),
                *self._tenant_jobs(name, topology, image, wiring, frozen, resume=resume),
            ]
            self.network_backend.lay(wiring.cables)
            machine, *others = launch_all(jobs)
            undo.pop_all()
        machines = dict(zip(wiring.tenants, others, strict=True))
        return SystemVm(
            name, topology, machine, guest, _controls(topology, machines), machines, wiring.endpoints, wiring.ports,
            held, overlays, wiring.uplinks, wiring.nics[present:], self.network_backend,
            self.peak(topology, resume=resume),
        )  # fmt: skip

    def _launch_system(self, name: str, spec: DomainSpec, frozen: Path | None, guest: SshGuest) -> Machine:
        state = self._frozen(frozen, SYSTEM).state if frozen else None
        machine = self.launcher.launch(name, spec, AGENT_CHANNEL, state)
        guest.stopped_by, guest.locked_up = machine.halted, machine.locked_up
        guest.disk = partial(disk_now, machine)
        if spec.incoming:  # the login need not wait for the tenants
            try:
                guest.connect()
            except BaseException:
                machine.destroy()
                raise
        return machine

    def _tenant_jobs(
        self, vm: str, topology: Topology, image: Image, wiring: Wiring, folder: Path | None, *, resume: bool
    ) -> list[Callable[[], Machine]]:
        """Return what launches each tenant guest, in their order."""

        def launch(spec: tenants.TenantSpec) -> Machine:
            frozen = self._frozen(folder, spec.name) if folder else None
            initrd = self._tenant_initrd(vm, spec.name, folder)
            domain = domain_of(
                spec, image, self.accelerator, wiring.tenants[spec.name], initrd,
                frozen.ram if frozen else None, resume=resume,
            )  # fmt: skip
            state = frozen.state if frozen else None
            return self.launcher.launch(f"{vm}-{spec.name}", domain, tenants.CONTROL_CHANNEL, state)

        return [partial(launch, spec) for spec in topology.tenants]

    def _tenant_initrd(self, vm: str, tenant: str, frozen: Path | None) -> Path:
        """Return where a tenant's initramfs lies: with its snapshot, or with the overlays of the run."""
        return frozen / f"tenant-{tenant}.initrd" if frozen else self._work() / f"{vm}-{tenant}.initrd"

    def _frozen(self, folder: Path, name: str) -> Frozen:
        return frozen_in(folder, name, self.technique)

    def _direct_boot(self, image: Image) -> dict[str, Any]:
        """Return kernel, initramfs and arguments; nothing for a disk that only boots by itself."""
        if not image.direct_boot:
            return {}
        cmdline = kernel_arguments(image, self.accelerator)
        return {"kernel": image.kernel, "initrd": image.initrd, "cmdline": cmdline}

    def _work(self) -> Path:
        """Return the folder for overlays: on disk, not in the run folder, which may be in memory."""
        return open_work(self.run.id)


def _controls(topology: Topology, machines: dict[str, Machine]) -> dict[str, Tenant]:
    """Return the hosts of all tenant guests by name."""
    controls: dict[str, Tenant] = {}
    for spec in topology.tenants:
        controls |= tenants.connect(spec, machines[spec.name].folder / "tenant.sock")
    return controls


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
