"""The VMs behind ``sysvm serve``: those that a person keeps, and those that somebody else started."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bundle import catalogue
from bundle.errors import SysvmError
from harness import network
from harness.kept.listing import KeptVm, all_kept
from harness.management import NetworkRow, Vm, VpcRow
from harness.management.inventory import Location

if TYPE_CHECKING:
    from harness.guest.guest import SshGuest
    from harness.management import Target
    from harness.network import Network

# The account that the networks of all VMs belong to.
OWNER = "user"
_ASKING = 10.0


class ServedFleet:
    """The VMs of ``sysvm vm``, as they come and go, and some that were named."""

    def __init__(self, names: Sequence[str], remote: Sequence[Target]) -> None:
        """Take the VMs to serve.

        Args:
            names: kept VMs; none means all, also those that are started later.
            remote: VMs that somebody else started.
        """
        self._names = frozenset(names)
        self._remote = tuple(remote)
        self._guests: dict[str, SshGuest] = {}
        # A second connection to each, for looks while a job uses the first.
        self._eyes: dict[str, SshGuest] = {}
        self._types: dict[str, str | None] = {}
        # Those that our own libvirt runs.
        self._started: dict[str, KeptVm] = {}

    def rows(self) -> Sequence[Vm | NetworkRow | VpcRow]:
        """Return the VMs, and the networks and VPCs that they serve."""
        found: list[Vm | NetworkRow | VpcRow] = []
        running = _running()
        for kept in all_kept():
            if not self._names or kept.name in self._names:
                found += self._kept(kept, "Running" if kept.domain() in running else "Stopped")
        for target in self._remote:
            found += self._foreign(target)
        return found

    def reboot(self, vm: Vm) -> None:
        """Reboot a VM and wait until it answers: a kept one as its host does, another by its own command.

        Raises:
            InfrastructureError: it does not come back.
        """
        guest, kept = self._guests[vm.id], self._started.get(vm.id)
        self._eyes[vm.id].close()
        # One that stayed from a snapshot that could not be made has no disk under its name any more.
        if kept is None or not kept.source:
            guest.reboot()
            return
        from harness.kept.reboot import reboot

        reboot(kept, guest)

    def _kept(self, kept: KeptVm, state: str) -> list[Vm | NetworkRow | VpcRow]:
        own = f"{kept.run}/{kept.name}"
        self._started[own] = kept
        guest = self._guests.setdefault(own, kept.guest())
        name = kept.network or catalogue.vm_type(kept.vm_type).network
        declared = network.load(name) if name else None
        made = (Path(kept.folder).parent / "kept.json").stat().st_mtime
        created = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(made))
        location = _location(declared, kept.label, created)
        eyes = self._eyes.setdefault(own, kept.guest())
        return _served(Vm(own, kept.name, kept.vm_type, guest, state, location=location, eyes=eyes), declared)

    def _foreign(self, target: Target) -> list[Vm | NetworkRow | VpcRow]:
        """Return the row of somebody else's VM; its type is asked for, until it answers."""
        from harness.guest.guest import SshGuest

        if not isinstance(target.guest, SshGuest):
            raise TypeError(f"{target.name}: no guest that can be rebooted")
        self._guests.setdefault(target.name, target.guest)
        if self._types.get(target.name) is None:
            self._types[target.name] = _type_of(target.guest)
        vm_type = self._types[target.name]
        if vm_type is None:
            return []
        location = Location(host=target.guest.host, control=target.guest.host)
        first = target.guest
        eyes = self._eyes.setdefault(target.name, SshGuest(first.name, first.host, first.port, first.key))
        eyes.host_keys = first.host_keys
        return _served(Vm(target.name, target.name, vm_type, first, location=location, eyes=eyes), None)


def _served(vm: Vm, declared: Network | None) -> list[Vm | NetworkRow | VpcRow]:
    """Return a VM with the network or the VPC that it serves, which nobody else serves."""
    from dataclasses import replace

    kind = vm.kind
    name = f"{vm.name}-{kind.serves}"
    if kind.serves == "zone":
        return [vm]
    if kind.serves == "network":
        row = NetworkRow(f"{vm.id}/network", declared, name=name, owner=OWNER)
        return [replace(vm, networks=(row.id,)), row]
    vpc = VpcRow(f"{vm.id}/vpc", declared, name=name, owner=OWNER)
    tiers = [nic for nic in declared.nics if nic.role == "tier"] if declared else []
    rows = [
        NetworkRow(f"{vm.id}/tier{number}", vpc=vpc.id, name=f"{vm.name}-tier{number}", owner=OWNER)
        for number, _ in enumerate(tiers, 1)
    ]
    return [replace(vm, vpc=vpc.id), vpc, *rows]


def _location(declared: Network | None, label: str, created: str) -> Location:
    nics = declared.nics if declared else ()

    def first(*roles: str) -> str:
        return next((str(nic.address.ip) for nic in nics if nic.role in roles), "")

    return Location(
        host=socket.gethostname(), control=first("control"), public=first("public"), inside=first("guest", "tier"),
        template=label, created=created,
    )  # fmt: skip


def _running() -> frozenset[str]:
    """Return the names of the domains that run."""
    from harness.kept.stop import alive

    with alive() as (_host, domains):
        return frozenset(domains)


def _type_of(guest: SshGuest) -> str | None:
    """Return the type that a VM says, or None while it cannot be asked."""
    from harness.lab.judged import type_of

    try:
        guest.connect(_ASKING)
        return type_of(guest)
    except SysvmError:
        return None
