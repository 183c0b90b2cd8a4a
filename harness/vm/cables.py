"""Host sides of NICs: user-mode networks with forwards and cables on loopback, which need no root, and bridges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias


@dataclass(frozen=True)
class Forward:
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
    forwards: tuple[Forward, ...] = ()

    def arguments(self, netdev_id: str) -> list[str]:
        """Return QEMU's arguments."""
        return ["-netdev", self.netdev(netdev_id)]

    def netdev(self, netdev_id: str) -> str:
        """Return the value of ``-netdev``."""
        parts = [f"user,id={netdev_id}", f"net={self.network}", f"host={self.host}", "restrict=on"]
        parts += [f"hostfwd={f.protocol}:127.0.0.1:{f.host_port}-{f.address}:{f.port}" for f in self.forwards]
        return ",".join(parts)


@dataclass(frozen=True)
class Link:
    """One end of a cable between two machines: UDP on loopback."""

    local_port: int
    remote_port: int

    @property
    def other_end(self) -> Link:
        """The end that the other machine has."""
        return Link(self.remote_port, self.local_port)

    def arguments(self, netdev_id: str) -> list[str]:
        """Return QEMU's arguments."""
        return ["-netdev", self.netdev(netdev_id)]

    def netdev(self, netdev_id: str) -> str:
        """Return the value of ``-netdev``."""
        return f"socket,id={netdev_id},udp=127.0.0.1:{self.remote_port},localaddr=127.0.0.1:{self.local_port}"


@dataclass(frozen=True)
class Star:
    """A segment whose middle is this machine's QEMU: any number of cables, no frame comes back to its sender.

    Attributes:
        links: this machine's ends of the cables.
        hub_id: NICs of one machine with the same number are on the same segment.
    """

    links: tuple[Link, ...]
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


@dataclass(frozen=True)
class Bridge:
    """One end of a cable to a Linux bridge in a network namespace; see :mod:`harness.vm.taps`.

    The NIC and a tap, which is plugged in while QEMU runs, meet on a QEMU hub: so the guest sees the very NIC that it
    sees with other cables, and a snapshot that was made with one sort of cable can be restored with the other.

    Attributes:
        namespace: where the bridge is.
        device: the router's NIC on that segment, such as ``eth0``.
        end: which of the machines on the segment has this end.
    """

    namespace: str
    device: str
    end: str = "vm"

    @property
    def name(self) -> str:
        """The bridge."""
        return f"br-{self.device}"

    @property
    def tap(self) -> str:
        """The bridge's port that leads to this end."""
        return f"{self.device}-{self.end}"

    @property
    def hub_id(self) -> int:
        """The hub on which NIC and tap meet."""
        return int(self.device.removeprefix("eth"))

    @property
    def other_end(self) -> Bridge:
        """The end that the tenant guest has."""
        return replace(self, end="tenants")

    def arguments(self, netdev_id: str) -> list[str]:
        """Return QEMU's arguments: a hub with the NIC alone."""
        return Star((), self.hub_id).arguments(netdev_id)


Cable: TypeAlias = Link | Bridge


def cable(namespace: str | None, device: str, take_port: Callable[[], int], end: str = "vm") -> Cable:
    """Return a router's end of a new cable from its NIC ``device``: to a bridge if there is a namespace for it."""
    return Bridge(namespace, device, end) if namespace else Link(take_port(), take_port())
