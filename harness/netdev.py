"""Host sides of NICs that need no root: user-mode networks with forwards, and hubs on loopback."""

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
class Hub:
    """A virtual L2 segment on loopback that any number of machines may join."""

    port: int
    group: str = "230.0.0.1"

    def arguments(self, netdev_id: str) -> list[str]:
        """Return QEMU's arguments."""
        return ["-netdev", self.netdev(netdev_id)]

    def netdev(self, netdev_id: str) -> str:
        """Return the value of ``-netdev``."""
        return f"socket,id={netdev_id},mcast={self.group}:{self.port},localaddr=127.0.0.1"


@dataclass(frozen=True)
class Joined:
    """A segment that is both: reachable from loopback by forwards, and shared with other machines."""

    user: UserNet
    hub: Hub
    hub_id: int

    def arguments(self, netdev_id: str) -> list[str]:
        """Return QEMU's arguments: both sides and the NIC meet on one QEMU hub."""
        sides: list[tuple[UserNet | Hub, str]] = [(self.user, f"{netdev_id}u"), (self.hub, f"{netdev_id}h")]
        arguments = []
        for side, name in sides:
            arguments += [
                *side.arguments(name),
                "-netdev",
                f"hubport,id={name}p,hubid={self.hub_id},netdev={name}",
            ]
        return [*arguments, "-netdev", f"hubport,id={netdev_id},hubid={self.hub_id}"]
