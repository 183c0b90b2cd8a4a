"""Segments as cables of UDP on loopback, which need no root and meet in the tenant guest's QEMU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.vm.cables import Cable, Star

if TYPE_CHECKING:
    from harness.machine.domain import Nic
    from harness.machine.machine import Machine


@dataclass(frozen=True)
class UdpCable:
    """One end of a cable between two machines: UDP on loopback."""

    local_port: int
    remote_port: int

    @property
    def other_end(self) -> UdpCable:
        """The end that the other machine has."""
        return UdpCable(self.remote_port, self.local_port)

    def far_side(self, others: Sequence[Cable], hub_id: int) -> Star:
        """Return the hub in the tenant guest's QEMU on which the other ends of all cables meet."""
        return Star(tuple(cable.other_end for cable in (self, *others)), hub_id)

    def arguments(self, netdev_id: str) -> list[str]:
        """Return QEMU's arguments."""
        return ["-netdev", self.netdev(netdev_id)]

    def netdev(self, netdev_id: str) -> str:
        """Return the value of ``-netdev``."""
        return f"socket,id={netdev_id},udp=127.0.0.1:{self.remote_port},localaddr=127.0.0.1:{self.local_port}"


class Loopback:
    """Cables on loopback: QEMU's arguments are all that they take; see :class:`harness.vm.backends.NetworkBackend`."""

    name = "loopback"

    def refusal(self) -> str:
        """Return nothing: any process can do it."""
        return ""

    def cable(self, owner: str, device: str, take_port: Callable[[], int], end: str = "vm") -> UdpCable:  # noqa: ARG002 - who it is for makes no difference here
        """Return a router's end of a new cable, which takes two ports."""
        return UdpCable(take_port(), take_port())

    def lay(self, cables: Iterable[Cable]) -> None:
        """Do nothing: a cable is there as soon as both machines are."""

    def plug(self, machine: Machine, nics: Iterable[Nic]) -> None:
        """Do nothing: QEMU has plugged its own ends."""

    def rejoin(self, machine: Machine) -> None:
        """Do nothing: QEMU has plugged its own ends again."""

    def remove(self, owners: str) -> None:
        """Do nothing: cables go with their machines."""

    def describe(self, owner: str) -> None:
        """Return None: nobody can look at what passes."""
