"""Host sides of NICs that need no root: user-mode networks with forwards, and cables on loopback."""

from __future__ import annotations

from dataclasses import dataclass


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
