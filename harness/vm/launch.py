"""Machines that are launched: one domain with its folder, sockets and RAM file, or several side by side."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from harness.host import private
from harness.host.hypervisor import PREFIX, Hypervisor
from harness.host.runtime import RuntimeFolder
from harness.image import Image
from harness.machine import ram
from harness.machine.accel import Accelerator
from harness.machine.domain import AGENT_CHANNEL, Channel, DomainSpec
from harness.machine.machine import Machine
from harness.machine.machine import start as start_machine
from harness.vm.backends import NetworkBackend


@dataclass(frozen=True)
class Launcher:
    """Starts the domains of a run.

    Attributes:
        owned: machines end with this process's connection.
        backend: what their segments are made of.
    """

    hypervisor: Hypervisor
    run: RuntimeFolder
    owned: bool
    backend: NetworkBackend

    def domain(self, name: str) -> str:
        """Return what a machine of this run is called on the host."""
        return f"{PREFIX}{self.run.id}-{name}"

    def launch(self, name: str, base: DomainSpec, channel: str, state: Path | None) -> Machine:
        """Start one domain and join it to its segments; a restored one is fed its state.

        Args:
            name: short name, unique in the run.
            base: the domain, but for name, UUID, sockets and logs.
            channel: name of its one virtio-serial port.
            state: file of its device state, for one that waits for it.
        """
        folder = self.run.machine(name)
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, self.hypervisor.uid, self.hypervisor.gid)
        folder.chmod(0o700)
        socket_name = "agent.sock" if channel == AGENT_CHANNEL else "tenant.sock"
        spec = replace(
            base, name=self.domain(name), uuid=str(uuid.uuid4()),
            console_socket=private.socket_name(folder / "console.sock"), console_log=folder / "console.log",
            channels=(Channel(channel, folder / socket_name),),
        )  # fmt: skip
        machine = self._start(spec, folder)
        try:
            self.backend.plug(machine, spec.nics)
            if spec.incoming and state is not None:
                machine.load_state(state)
        except BaseException:
            machine.destroy()
            raise
        return machine

    def _start(self, spec: DomainSpec, folder: Path) -> Machine:
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


def launch_all(jobs: list[Callable[[], Machine]]) -> list[Machine]:
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


def kernel_arguments(image: Image, accelerator: Accelerator) -> str:
    """Return the kernel's command line for a direct boot.

    On a busy host an emulated timer may miss the moment at which the kernel tests it, and the kernel panics: no test.
    """
    common = "rw console=ttyS0,115200n8 net.ifnames=0 biosdevname=0 no_timer_check quiet"
    return f"root={image.root_device} {common} {accelerator.system_arguments}".rstrip()
