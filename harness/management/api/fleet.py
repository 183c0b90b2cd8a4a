"""The source of the served VMs, as a protocol: this room reaches no machine and opens no connection."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from bundle.errors import InfrastructureError, SysvmError
from harness.kvmagent import patch
from harness.kvmagent.patch import Versions
from harness.management import health
from harness.management.gate import four_numbers, template_number
from harness.management.inventory import Inventory, NetworkRow, Vm, VpcRow
from harness.management.server import ManagementServer, Tell
from harness.management.status import patch_phase

if TYPE_CHECKING:
    from harness.guest.protocols import Guest

# Seconds between two looks at VMs that nobody patches.
LOOK_EVERY = 30.0
_AT_ONCE = 4
# Seconds between two looks at the phase of a patch; each costs the guest a shell.
PHASE_EVERY = 2.0
# What the agent's unit is called in a console proxy or storage VM.
AGENT_SERVICE = "cloud"


class Fleet(Protocol):
    """The VMs of a server, and what serves them with machines."""

    def rows(self) -> Sequence[Vm | NetworkRow | VpcRow]:
        """Return what there is now: VMs, the networks and VPCs that they serve. Ids stay the same for the same VM."""
        ...

    def reboot(self, vm: Vm) -> None:
        """Reboot a VM and wait until it answers.

        Raises:
            InfrastructureError: it does not come back.
        """
        ...


class FixedFleet:
    """A fleet that never changes: what the inventory holds already."""

    def rows(self) -> Sequence[Vm | NetworkRow | VpcRow]:
        """Return nothing further."""
        return ()

    def reboot(self, vm: Vm) -> None:
        """Refuse.

        Raises:
            InfrastructureError: always.
        """
        raise InfrastructureError(f"{vm.name}: nothing here can reboot it")


@contextmanager
def watched(vms: Sequence[Vm], tell: Tell) -> Iterator[None]:
    """Tell the phase of the patch script of some VMs while the block runs, where there is a second way into a VM."""
    seen = [vm for vm in vms if vm.eyes is not None]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(PHASE_EVERY):
            for vm in seen:
                if vm.eyes is not None and (phase := patch_phase(vm.eyes)) and not ended.is_set():
                    tell(f"{vm.name}: {phase}")

    thread = threading.Thread(target=watch, name="phases", daemon=True)
    if seen:
        thread.start()
    try:
        yield
    finally:
        ended.set()


class Watch:
    """Keeps the inventory true: takes up new VMs, drops those that are gone, and asks each what it runs."""

    def __init__(
        self, server: ManagementServer, fleet: Fleet, every: float = LOOK_EVERY, *, believing: bool = False
    ) -> None:
        """Take the server whose inventory it keeps; nothing is asked before :meth:`start`, or :meth:`look`.

        Args:
            server: the server.
            fleet: its VMs.
            every: seconds between two looks.
            believing: ask what scripts a VM runs only once, and believe what patches say from then on.
        """
        self._believing = believing
        self._server = server
        self._fleet = fleet
        self._every = every
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._ours: set[str] = set()

    @property
    def _inventory(self) -> Inventory:
        return self._server.inventory

    def start(self) -> None:
        """Look once at everything, and then again and again in the background."""
        self.look_at_all()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            with suppress(SysvmError, OSError):  # the next look may find what this one did not
                self.look_at_all()

    def look_at_all(self) -> None:
        """Take up and drop VMs, and ask all."""
        self._take_up()
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="look") as pool:
            list(pool.map(self._look, self._inventory.all_vms()))

    def look(self, vms: Iterable[Vm]) -> None:
        """Ask some VMs what they run, as after a job."""
        for vm in vms:
            self._look(vm)

    def _take_up(self) -> None:
        there = list(self._fleet.rows())
        vms = {row.id for row in there if isinstance(row, Vm)}
        for gone in self._ours - vms:
            self._inventory.vms.pop(gone, None)
        for row in there:
            if isinstance(row, Vm):
                self._inventory.change(row.id, state=row.state)
        known = {*self._inventory.vms, *self._inventory.networks, *self._inventory.vpcs}
        self._inventory.add(*(row for row in there if row.id not in known))
        self._ours = vms

    def _look(self, vm: Vm) -> None:
        """Ask one VM; one that does not answer keeps what is known, and its agent counts as disconnected.

        A VM that a job is on is left to that job.
        """
        if self._server.is_busy(vm) or vm.state != "Running":
            return
        guest = vm.eyes or vm.guest
        try:
            versions = patch.ask_versions(guest)
            facts: dict[str, str] = {}
            if vm.redundant:
                facts["role"] = health.role(guest, self._server.release)
            if vm.type is not None and vm.kind.family == "agent":
                facts |= _agent_of(guest, versions)
        except InfrastructureError:
            if vm.agent:
                self._inventory.change(vm.id, agent="Disconnected", agent_version="")
            return
        if not (self._believing and vm.scripts_version):
            self._inventory.learn(vm.id, versions.template, versions.scripts)
        if facts:
            self._inventory.change(vm.id, **facts)

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)


def _agent_of(guest: Guest, versions: Versions) -> dict[str, str]:
    """Return state and version of a VM's agent: the release of the last patch, or the template's without one."""
    number = ".".join(map(str, template_number(versions.template)))
    version = four_numbers(health.installed_release(guest) or number)
    if AGENT_SERVICE in health.active_services(guest):
        return {"agent": "Up", "agent_version": version}
    return {"agent": "Down", "agent_version": ""}
