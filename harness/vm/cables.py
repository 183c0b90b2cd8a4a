"""Host sides of NICs that every network backend uses: forwards, user-mode networks, hubs, and what a cable is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.machine.domain import NicBackend


class Cable(Protocol):
    """One end of a cable between a router and its tenants; a network backend makes it."""

    @property
    def other_end(self) -> Cable:
        """The end that the tenant guest has."""

    def arguments(self, netdev_id: str) -> list[str]:
        """Return QEMU's arguments that make a netdev of that id."""

    def far_side(self, others: Sequence[Cable], hub_id: int) -> NicBackend:
        """Return the tenant guest's side of the segment that this cable and ``others``, of the same backend, lead to.

        Args:
            others: ends that further routers have on the segment.
            hub_id: number of the segment within the tenant guest.
        """


@dataclass(frozen=True)
class HostForward:
    """A loopback port of the host that leads to an address and port behind a NIC."""

    host_port: int
    address: str
    port: int
    protocol: str = "tcp"


@dataclass(frozen=True)
class UserNet:
    """QEMU's user-mode network (SLIRP), cut off from everything but its forwards.

    ``restrict`` keeps guests off the host and the world: only connections from loopback come in.
    """

    network: str
    host: str
    forwards: tuple[HostForward, ...] = ()

    def arguments(self, netdev_id: str) -> list[str]:
        """Return QEMU's arguments."""
        return ["-netdev", self.netdev(netdev_id)]

    def netdev(self, netdev_id: str) -> str:
        """Return the value of ``-netdev``."""
        parts = [f"user,id={netdev_id}", f"net={self.network}", f"host={self.host}", "restrict=on"]
        parts += [f"hostfwd={f.protocol}:127.0.0.1:{f.host_port}-{f.address}:{f.port}" for f in self.forwards]
        return ",".join(parts)


@dataclass(frozen=True)
class Star:
    """A segment whose middle is this machine's QEMU: any number of cables, no frame comes back to its sender.

    Attributes:
        links: this machine's ends of the cables.
        hub_id: NICs of one machine with the same number are on the same segment.
    """

    links: tuple[Cable, ...]
    hub_id: int = 0

    def arguments(self, netdev_id: str) -> list[str]:
        """Return QEMU's arguments: all cables and the NIC meet on one QEMU hub."""
        arguments = ["-netdev", f"hubport,id={netdev_id},hubid={self.hub_id}"]
        for index, link in enumerate(self.links):
            name = f"{netdev_id}l{index}"
            arguments += [
                *link.arguments(name),
                "-netdev",
                f"hubport,id={name}p,hubid={self.hub_id},netdev={name}",
            ]
        return arguments
