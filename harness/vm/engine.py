"""The VM engine: starts a system VM with its tenants, freezes it as a golden snapshot, restores as many as asked for.

A golden snapshot is, for each machine, a RAM file, a device state (everything but RAM) and a disk. A restore maps the
RAM file privately, so nothing is copied, puts an overlay on the disk, and feeds the device state to a QEMU that waits
(docs/adr/0002-golden-snapshots.md has the measurements).
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.errors import InfrastructureError
from harness.guest.guest import Guest
from harness.host import slots
from harness.host.hypervisor import PREFIX, Hypervisor
from harness.host.ports import Ports
from harness.host.runs import RunDir
from harness.image import Image
from harness.machine import ram
from harness.machine.accel import Accelerator
from harness.machine.disks import copy_overlay, disk_serial, make_overlay, open_work, require_room
from harness.machine.domain import AGENT_CHANNEL, Channel, DomainSpec, Nic
from harness.machine.machine import Machine
from harness.machine.machine import start as start_machine
from harness.machine.technique import Technique
from harness.vm import taps
from harness.vm.cables import Bridge, Link, Star, UserNet, cable
from harness.vm.tenant import tenant as tenants
from harness.vm.tenant.tenant import Tenant
from harness.vm.topology import SSH_PORT, Topology

if TYPE_CHECKING:
    from harness.site.site import Site

# NICs come after libvirt's own devices on the PCI bus; the kernel names them in the order of their slots.
FIRST_NIC_SLOT = 0x10
SYSTEM = "system"
# The bundle of a release whose system VMs read it from a CD drive (before 4.17).
CD = "systemvm.iso"
VCPUS = 2
# What a golden snapshot takes beside its RAM: about twice what the disks of the types were seen to.
SNAPSHOT_DISK_MIB = 256
# Of a restored machine's memory about this part becomes its own (40 MiB of 512 were measured idle).
RESTORED_SHARE = 4


@dataclass
class SystemVm:
    """A running system VM, its tenants, and the loopback ports that lead to it.

    Attributes:
        name: short name, unique in the run.
        endpoints: loopback port of each exposed (address, port).
        uplinks: the VM's ends of the cables to networks that somebody else plays, by the NIC's role.
        unplugged: NICs that are to be plugged in after the boot.
        namespace: where its segments are bridges; None while they are cables on loopback.
        site: who plays the management network; None while nobody does.
    """

    name: str
    topology: Topology
    machine: Machine
    guest: Guest
    tenants: dict[str, Tenant]
    tenant_machines: dict[str, Machine]
    endpoints: dict[tuple[str, int], int]
    ports: Ports
    reservation: slots.Reservation
    overlays: list[Path] = field(default_factory=list)
    uplinks: dict[str, Link] = field(default_factory=dict)
    unplugged: tuple[Nic, ...] = ()
    namespace: str | None = None
    site: Site | None = None

    @property
    def console_log(self) -> Path:
        """Everything that the serial console printed."""
        return self.machine.folder / "console.log"

    def machines(self) -> list[Machine]:
        """Return the system VM's machine and those of its tenants."""
        return [self.machine, *self.tenant_machines.values()]

    def pause(self) -> None:
        """Let everything stand still."""
        for machine in self.machines():
            machine.pause()

    def resume(self) -> None:
        """Let everything run again; the clock is set in front of the next command."""
        for machine in self.machines():
            machine.resume()
        self.guest.precede_first(_set_clock)

    def rename(self, name: str) -> None:
        """Call it by another name in messages and logs; its domains keep theirs."""
        self.name = self.guest.name = name

    def stop(self) -> None:
        """End all machines and remove what they left."""
        self.guest.close()
        for tenant in self.tenants.values():
            tenant.close()
        with ThreadPoolExecutor() as pool:
            list(pool.map(Machine.destroy, self.machines()))
        self.ports.release()
        self.reservation.release()
        for overlay in self.overlays:
            overlay.unlink(missing_ok=True)
        if self.namespace:
            taps.remove(self.namespace)


@dataclass(frozen=True)
class Frozen:
    """Files of one machine in a golden snapshot."""

    ram: Path | None
    state: Path
    disk: Path | None
    overlay: Path | None  # an empty one on the disk, for every restore to copy


@dataclass(frozen=True)
class Engine:
    """What all machines of a run share.

    Attributes:
        owned: machines end with this process's connection; not so for those that a person keeps.
        technique: where the RAM of golden snapshots lies.
        network_backend: what the segments between system VMs and tenants are made of.
    """

    hypervisor: Hypervisor
    run: RunDir
    accelerator: Accelerator
    owned: bool = True
    technique: Technique = "shared-ram"
    network_backend: taps.NetworkBackend = "loopback"

    def namespace(self, name: str) -> str | None:
        """Return the network namespace of the segments of a VM: it is called like the VM's domain."""
        return self._domain(name) if self.network_backend == "taps" else None

    def need(self, topology: Topology, *, resume: bool) -> slots.Need:
        """Return what a system VM and its tenants take; where RAM files are shared most memory is the snapshot's."""
        memory = topology.memory_mib + len(topology.tenants) * tenants.MEMORY_MIB
        shared = resume and self.technique == "shared-ram"
        return slots.Need(memory // RESTORED_SHARE if shared else memory, VCPUS + len(topology.tenants))

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
            iso=_cd(freeze_to), ram_file=frozen.ram if frozen else None, ram_shared=True,
        )  # fmt: skip
        return self._assemble(name, topology, image, key, base, freeze_to, resume=False, reserved=reserved)

    def freeze(self, vm: SystemVm, folder: Path) -> None:
        """Write the device states of a stopped-for-good system VM and its tenants; ends the machines."""
        vm.guest.close()
        # What the guest has still to do, such as ending our session, every restore would do again.
        vm.machine.wait_idle()
        names = [SYSTEM, *vm.tenant_machines]
        vm.pause()
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
            iso=_cd(folder), ram_file=frozen.ram, incoming=True,
        )  # fmt: skip
        try:
            vm = self._assemble(
                name, topology, image, key, base, folder, resume=True, patience=patience, reserved=reserved
            )
        except BaseException:
            overlay.unlink(missing_ok=True)
            raise
        vm.guest.precede_first(_set_clock)
        return vm

    def _assemble(
        self, name: str, topology: Topology, image: Image, key: Path, base: DomainSpec,
        frozen: Path | None, *, resume: bool, patience: float = slots.DEADLINE, reserved: bool,
    ) -> SystemVm:  # fmt: skip
        if reserved:
            reservation = slots.Reservation()
        else:
            reservation = slots.reserve(self.need(topology, resume=resume), name, deadline=patience)
        ports = Ports()
        endpoints: dict[tuple[str, int], int] = {}

        def host_port(address: str, port: int) -> int:
            return endpoints.setdefault((address, port), ports.take())

        uplinks: dict[str, Link] = {}

        def uplink(role: str) -> Link:
            return uplinks.setdefault(role, Link(ports.take(), ports.take()))

        namespace = self.namespace(name)
        links = {device: cable(namespace, device, ports.take) for device in topology.segments}
        nics = tuple(
            Nic(plan.mac, topology.backend(plan, links, host_port, uplink), FIRST_NIC_SLOT + index)
            for index, plan in enumerate(topology.nics)
        )
        # What a management server plugs in after the boot is there at once in a restored machine.
        present = nics if resume else nics[: topology.present_at_boot]
        overlays = [base.disk] if base.disk and base.disk.parent == self._work() else []
        if frozen is None:
            overlays += [self._tenant_initrd(name, spec.name, None) for spec in topology.tenants]
        guest = Guest(name, "127.0.0.1", endpoints[(topology.control.address, SSH_PORT)], key)

        def system_job() -> Machine:
            machine = self._launch(
                name, replace(base, nics=present), AGENT_CHANNEL, (frozen, SYSTEM) if frozen else None
            )
            if resume:  # the login need not wait for the tenants
                try:
                    guest.connect()
                except BaseException:
                    machine.destroy()
                    raise
            return machine

        jobs: list[Callable[[], Machine]] = [system_job]
        for spec in topology.tenants:
            far = topology.tenant_nics(spec, links, host_port)
            jobs.append(self._tenant_job(name, spec, image, far, frozen, resume=resume))
        try:
            taps.lay([*links.values(), *dict(topology.own_cables).values()])
            system, *others = _launch_all(jobs)
        except BaseException:
            guest.close()
            if namespace:
                taps.remove(namespace)
            ports.release()
            reservation.release()
            for overlay in overlays:
                overlay.unlink(missing_ok=True)
            raise
        tenant_machines = dict(zip([spec.name for spec in topology.tenants], others, strict=True))
        controls: dict[str, Tenant] = {}
        for spec in topology.tenants:
            controls |= tenants.connect(spec, tenant_machines[spec.name].folder / "tenant.sock")
        return SystemVm(
            name, topology, system, guest, controls, tenant_machines, endpoints, ports, reservation, overlays,
            uplinks, nics[len(present) :], namespace if links else None,
        )  # fmt: skip

    def _tenant_job(
        self,
        vm: str,
        spec: tenants.TenantSpec,
        image: Image,
        far: tuple[tuple[str, Star | Bridge | UserNet], ...],
        frozen: Path | None,
        *,
        resume: bool,
    ) -> Callable[[], Machine]:
        def job() -> Machine:
            if not image.direct_boot:
                raise InfrastructureError(f"template {image.key} has no kernel that tenants could boot")
            initrd = self._tenant_initrd(vm, spec.name, frozen)
            if not initrd.exists():
                tenants.write_initrd(initrd, spec, image.modules())
            base = DomainSpec(
                name="", uuid="", accelerator=self.accelerator, console_socket=Path(), console_log=Path(),
                memory_mib=tenants.MEMORY_MIB, vcpus=1, description="tenant", kernel=image.kernel, initrd=initrd,
                cmdline=f"{tenants.KERNEL_ARGUMENTS} {self.accelerator.kernel_arguments}".rstrip(),
                nics=tuple(Nic(mac, end, FIRST_NIC_SLOT + index) for index, (mac, end) in enumerate(far)),
                ram_file=self._frozen(frozen, spec.name).ram if frozen else None,
                ram_shared=not resume, incoming=resume,
            )  # fmt: skip
            return self._launch(
                f"{vm}-{spec.name}", base, tenants.CONTROL_CHANNEL, (frozen, spec.name) if frozen else None
            )

        return job

    def _tenant_initrd(self, vm: str, tenant: str, frozen: Path | None) -> Path:
        """Return where a tenant's initramfs lies: with its snapshot, or with the overlays of the run."""
        return frozen / f"tenant-{tenant}.initrd" if frozen else self._work() / f"{vm}-{tenant}.initrd"

    def _launch(self, name: str, base: DomainSpec, channel: str, frozen: tuple[Path, str] | None) -> Machine:
        """Start one domain; a restored one is fed its state."""
        folder = self.run.machine(name)
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, self.hypervisor.uid, self.hypervisor.gid)
        folder.chmod(0o700)
        socket_name = "agent.sock" if channel == AGENT_CHANNEL else "tenant.sock"
        spec = replace(
            base, name=self._domain(name), uuid=str(uuid.uuid4()),
            console_socket=folder / "console.sock", console_log=folder / "console.log",
            channels=(Channel(channel, folder / socket_name),),
        )  # fmt: skip
        machine = self._start_machine(spec, folder)
        try:
            taps.plug(machine, spec.nics)
            if spec.incoming and frozen is not None:
                machine.load_state(self._frozen(*frozen).state)
        except BaseException:
            machine.destroy()
            raise
        return machine

    def _start_machine(self, spec: DomainSpec, folder: Path) -> Machine:
        """Start one domain, with a file for its RAM if that is to be frozen."""
        if spec.ram_file is None or spec.incoming:
            return start_machine(self.hypervisor, spec, folder, owned=self.owned)
        file = ram.make(spec.ram_file, spec.memory_mib, self.hypervisor, spec.name)
        try:
            spec = replace(spec, ram_file=file.path)
            machine = start_machine(self.hypervisor, spec, folder, owned=self.owned)
        except BaseException:
            file.close()
            raise
        file.hide()
        return replace(machine, ram=file)

    def _domain(self, name: str) -> str:
        """Return what a machine of this run is called on the host."""
        return f"{PREFIX}{self.run.id}-{name}"

    def _frozen(self, folder: Path, name: str) -> Frozen:
        """Return the names for machine ``name`` in a snapshot's folder."""
        return Frozen(
            folder / f"{name}.ram" if self.technique == "shared-ram" else None,
            folder / f"{name}.state",
            folder / f"{name}.qcow2" if name == SYSTEM else None,
            folder / f"{name}.overlay" if name == SYSTEM else None,
        )

    def _direct_boot(self, image: Image) -> dict[str, Any]:
        """Return kernel, initramfs and arguments; nothing for a disk that only boots by itself."""
        if not image.direct_boot:
            return {}
        cmdline = kernel_arguments(image, self.accelerator)
        return {"kernel": image.kernel, "initrd": image.initrd, "cmdline": cmdline}

    def _work(self) -> Path:
        """Return the folder for overlays: on disk, not in the run folder, which may be in memory."""
        return open_work(self.run.id)


def _launch_all(jobs: list[Callable[[], Machine]]) -> list[Machine]:
    """Run the jobs side by side; when one fails, the machines of the others are ended and its error is raised."""
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        futures = [pool.submit(job) for job in jobs]
    errors = [error for future in futures if (error := future.exception())]
    machines = [future.result() for future in futures if not future.exception()]
    for error in errors:
        for machine in machines:
            machine.destroy()
        raise error
    return machines


def _set_clock() -> str:
    """Return the command that sets a guest's clock, which still shows the moment when it was stopped."""
    return f"date -u -s @{time.time():.3f} >/dev/null"


def _cd(folder: Path | None) -> Path | None:
    """Return the image in the CD drive of a snapshot's machine, if it has one."""
    return folder / CD if folder and (folder / CD).exists() else None


def kernel_arguments(image: Image, accelerator: Accelerator) -> str:
    """Return the kernel's command line for a direct boot.

    On a busy host an emulated timer may miss the moment at which the kernel tests it, and the kernel panics: no test.
    """
    common = "rw console=ttyS0,115200n8 net.ifnames=0 biosdevname=0 no_timer_check quiet"
    return f"root={image.root_device} {common} {accelerator.system_arguments}".rstrip()
