"""A system VM that runs, with its tenants and with what it holds on the host."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bundle.errors import InfrastructureError
from harness.guest.guest import SshGuest
from harness.host import peaks, slots
from harness.host.ports import PortReservations
from harness.machine.domain import Nic
from harness.machine.machine import Machine
from harness.vm.backends import NetworkBackend
from harness.vm.loopback import Loopback, UdpCable
from harness.vm.tenant.tenant import Tenant
from harness.vm.topology import Topology


@dataclass(eq=False)
class SystemVm:
    """A running system VM, its tenants, and the loopback ports that lead to it.

    Attributes:
        name: short name, unique in the run.
        endpoints: loopback port of each exposed (address, port).
        uplinks: the VM's ends of the cables to networks that somebody else plays, by the NIC's role.
        unplugged: NICs that are to be plugged in after the boot.
        backend: what its segments are made of.
        peak: what its memory is kept under when it ends; nothing for one that is not measured.
    """

    name: str
    topology: Topology
    machine: Machine
    guest: SshGuest
    tenants: dict[str, Tenant]
    tenant_machines: dict[str, Machine]
    endpoints: dict[tuple[str, int], int]
    ports: PortReservations
    reservation: slots.Reservation
    overlays: list[Path] = field(default_factory=list)
    uplinks: dict[str, UdpCable] = field(default_factory=dict)
    unplugged: tuple[Nic, ...] = ()
    backend: NetworkBackend = field(default_factory=Loopback)
    peak: tuple[object, ...] = ()

    @property
    def console_log(self) -> Path:
        """Everything that the serial console printed."""
        return self.machine.console_log

    @property
    def namespace(self) -> str | None:
        """The network namespace in which its segments can be looked at, if there is one."""
        return self.backend.describe(self.machine.name)

    def machines(self) -> list[Machine]:
        """Return the system VM's machine and those of its tenants."""
        return [self.machine, *self.tenant_machines.values()]

    def require_run(self) -> None:
        """Make sure that the host runs all its machines: what does not answer otherwise is at fault itself.

        Raises:
            InfrastructureError: QEMU has ended or stopped one; a guest that has switched its own off is at fault.
        """
        for machine in self.machines():
            if reason := machine.host_fault():
                raise InfrastructureError(
                    f"{machine.name}: {reason}", hint=f"console log: {machine.console_log}"
                )

    def memory_mib(self) -> int:
        """Return the MiB that all its machines take of their own now."""
        return peaks.memory_of(machine.name for machine in self.machines())

    def pause(self) -> None:
        """Let everything stand still."""
        for machine in self.machines():
            machine.pause()

    def resume(self) -> None:
        """Let everything run again; the clock is set in front of the next command."""
        for machine in self.machines():
            machine.resume()
        self.guest.precede_first(set_clock)

    def rename(self, name: str) -> None:
        """Call it by another name in messages and logs; its domains keep theirs."""
        self.name = self.guest.name = name

    def stop(self) -> None:
        """End all machines and remove what they left."""
        if self.peak:
            peaks.note(self.peak, self.memory_mib())
        self.guest.close()
        for tenant in self.tenants.values():
            tenant.close()
        with ThreadPoolExecutor() as pool:
            list(pool.map(Machine.destroy, self.machines()))
        self.ports.release()
        self.reservation.release()
        for overlay in self.overlays:
            overlay.unlink(missing_ok=True)
        self.backend.remove(self.machine.name)


def set_clock() -> str:
    """Return the command that sets a guest's clock, which still shows the moment when it was stopped."""
    return f"date -u -s @{time.time():.3f} >/dev/null"
