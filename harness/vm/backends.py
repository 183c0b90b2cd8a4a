"""Network backends: what the segments between system VMs and tenants are made of.

A new one is a file of its own, and a word in ``BACKENDS``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from bundle.errors import UsageError
from harness.vm.cables import Cable
from harness.vm.loopback import Loopback
from harness.vm.taps import Taps

if TYPE_CHECKING:
    from harness.machine.domain import Nic
    from harness.machine.machine import Machine

VARIABLE = "SYSVM_NETWORK_BACKEND"


class NetworkBackend(Protocol):
    """A way to make segments.

    Whatever a backend lays belongs to an owner, a system VM or a pair, by the name of the (first) VM's domain.
    """

    @property
    def name(self) -> str:
        """The backend's name for people."""

    def refusal(self) -> str:
        """Return why this process cannot use it, or nothing."""

    def cable(self, owner: str, device: str, take_port: Callable[[], int], end: str = "vm") -> Cable:
        """Return a router's end of a new cable.

        Args:
            owner: whom the segment belongs to.
            device: the router's NIC, such as ``eth0``.
            take_port: gives a free loopback port.
            end: which of the routers on the segment has it: ``vm``, or ``peer`` for the second one of a pair.
        """

    def lay(self, cables: Iterable[Cable]) -> None:
        """Make whatever must be there before the machines are; what is there already stays.

        Raises:
            InfrastructureError: the host refuses.
        """

    def plug(self, machine: Machine, nics: Iterable[Nic]) -> None:
        """Join a machine that runs to the segments of its NICs, as far as its QEMU has not done so by itself.

        Raises:
            InfrastructureError: the host or QEMU refuses.
        """

    def rejoin(self, machine: Machine) -> None:
        """Join the machine of an owner, started again as it was, to its segments; not one of another's segments.

        Raises:
            InfrastructureError: the host or QEMU refuses.
        """

    def remove(self, owners: str) -> None:
        """Remove what was laid for an owner, or for all that a pattern such as ``sysvm-98cc3a-*`` means.

        Raises:
            InfrastructureError: the host refuses.
        """

    def describe(self, owner: str) -> str | None:
        """Return the network namespace in which a person can look at an owner's segments, or None."""


BACKENDS: dict[str, NetworkBackend] = {backend.name: backend for backend in (Loopback(), Taps())}


def find(word: str | None = None) -> NetworkBackend:
    """Return a backend: the one asked for, else the one that ``SYSVM_NETWORK_BACKEND`` names, else loopback.

    Raises:
        UsageError: there is no such backend, or this process cannot use it.
    """
    name, source = (
        (word, "network backend") if word else (os.environ.get(VARIABLE) or Loopback.name, VARIABLE)
    )
    if name not in BACKENDS:
        raise UsageError(f"invalid {source} {name!r} (expected {' or '.join(BACKENDS)})")
    backend = BACKENDS[name]
    if reason := backend.refusal():
        raise UsageError(
            f"network backend {name!r} {reason}", hint=f"{Loopback.name!r} needs nothing of that"
        )
    return backend


def rejoin(machine: Machine) -> None:
    """Join a machine that was started again to the segments that were laid for it, by whichever backend.

    Raises:
        InfrastructureError: the host or QEMU refuses.
    """
    for backend in BACKENDS.values():
        backend.rejoin(machine)


def remove_all(owners: str) -> None:
    """Remove what any backend has laid for the owners that a pattern means.

    Raises:
        InfrastructureError: the host refuses.
    """
    for backend in BACKENDS.values():
        backend.remove(owners)
