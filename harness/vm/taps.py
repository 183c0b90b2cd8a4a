"""Segments as Linux bridges in a network namespace, for root: what passes them can be looked at.

QEMU stays where libvirt runs it, with its ports on loopback. Only the far sides of its cables, taps, are in the
namespace: they are opened there by a thread of ours and handed over to QEMU, so that a tap goes with its QEMU. A
namespace belongs to one system VM, or to a pair, and is called like the domain (docs/adr/0005-taps-in-a-namespace.md).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bundle import programs
from bundle.errors import InfrastructureError
from harness.vm.cables import Cable, Star

if TYPE_CHECKING:
    from harness.machine.domain import Nic
    from harness.machine.machine import Machine

T = TypeVar("T")
# Where ip(8) keeps named namespaces.
NAMESPACES = Path("/run/netns")
_TUN = Path("/dev/net/tun")
_BRIDGE = "br-"
# From <linux/sched.h> and <linux/if_tun.h>.
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
# Only the guests speak on a segment, and nobody filters what they say. A kernel need not have all of these.
_QUIET = {
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
    "bridge/bridge-nf-call-iptables": "0",
    "bridge/bridge-nf-call-ip6tables": "0",
    "bridge/bridge-nf-call-arptables": "0",
}
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class BridgeCable:
    """One end of a cable to a Linux bridge in a network namespace.

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
        return f"{_BRIDGE}{self.device}"

    @property
    def tap(self) -> str:
        """The bridge's port that leads to this end."""
        return f"{self.device}-{self.end}"

    @property
    def hub_id(self) -> int:
        """The hub on which NIC and tap meet."""
        return int(self.device.removeprefix("eth"))

    @property
    def other_end(self) -> BridgeCable:
        """The end that the tenant guest has."""
        return replace(self, end="tenants")

    def far_side(self, others: Sequence[Cable], hub_id: int) -> BridgeCable:  # noqa: ARG002 - the bridge knows both
        """Return the tenant guest's end: one for the bridge, whoever else is on it."""
        return self.other_end

    def arguments(self, netdev_id: str) -> list[str]:
        """Return QEMU's arguments: a hub with the NIC alone."""
        return Star((), self.hub_id).arguments(netdev_id)


class Taps:
    """Bridges with taps in a namespace called like their owner; see :class:`harness.vm.backends.NetworkBackend`."""

    name = "taps"

    def refusal(self) -> str:
        """Return what this process lacks, or nothing."""
        if os.geteuid() != 0:
            return "is for root only"
        if shutil.which("ip") is None:
            return "needs the program ip (Debian package iproute2)"
        if not _TUN.is_char_device():
            return f"needs {_TUN} (kernel module tun)"
        return ""

    def cable(self, owner: str, device: str, take_port: Callable[[], int], end: str = "vm") -> BridgeCable:  # noqa: ARG002
        """Return an end of the cable to the owner's bridge for a NIC; it takes no port."""
        return BridgeCable(owner, device, end)

    def lay(self, cables: Iterable[Cable]) -> None:
        """Make the bridges among the cables, and the namespaces that they are in; what is there already stays.

        Raises:
            InfrastructureError: the kernel refuses.
        """
        for bridge in _bridges(cables):
            if not (NAMESPACES / bridge.namespace).exists():
                _ip("netns", "add", bridge.namespace)
                _inside(bridge.namespace, _hush)
            there = {name for _, name in _inside(bridge.namespace, socket.if_nameindex)}
            if bridge.name not in there:
                # A snooping bridge asks for multicast groups itself, and forgets those of a guest that was stopped.
                _ip(
                    "-n", bridge.namespace, "link", "add", bridge.name, "up",
                    "type", "bridge", "mcast_snooping", "0",
                )  # fmt: skip

    def plug(self, machine: Machine, nics: Iterable[Nic]) -> None:
        """Lead a tap from each bridge among the backends of NICs to the hub in a machine's QEMU that the NICs are on.

        Raises:
            InfrastructureError: kernel, libvirt or QEMU refuses.
        """
        for bridge in _bridges(nic.backend for nic in nics):
            _plug(machine, bridge)

    def rejoin(self, machine: Machine) -> None:
        """Lead a new tap from each bridge of the machine's own namespace to it: the old ones went with its QEMU.

        Raises:
            InfrastructureError: kernel, libvirt or QEMU refuses.
        """
        if self.describe(machine.name) is None:
            return
        there = [name for _, name in _inside(machine.name, socket.if_nameindex)]
        for name in there:
            if name.startswith(_BRIDGE):
                _plug(machine, BridgeCable(machine.name, name.removeprefix(_BRIDGE)))

    def remove(self, owners: str) -> None:
        """Remove the namespaces of owners with their bridges; a tap that a QEMU still holds goes with that QEMU."""
        for path in NAMESPACES.glob(owners):
            try:
                _ip("netns", "delete", path.name)
            except InfrastructureError:
                if path.exists():  # else another command's reaper was faster
                    raise

    def describe(self, owner: str) -> str | None:
        """Return the namespace of an owner that has one."""
        return owner if (NAMESPACES / owner).exists() else None


def _bridges(ends: Iterable[object]) -> list[BridgeCable]:
    """Return the bridges, each once."""
    return list(dict.fromkeys(end for end in ends if isinstance(end, BridgeCable)))


def _plug(machine: Machine, bridge: BridgeCable) -> None:
    tap = _inside(bridge.namespace, lambda: _open_tap(bridge.tap))
    try:
        _ip("-n", bridge.namespace, "link", "set", bridge.tap, "master", bridge.name, "up")
        machine.hand_over(tap, bridge.tap)
    finally:
        os.close(tap)
    machine.monitor("netdev_add", type="tap", id=bridge.tap, fd=bridge.tap)
    machine.monitor(
        "netdev_add", type="hubport", id=f"{bridge.tap}-port", hubid=bridge.hub_id, netdev=bridge.tap
    )


def _ip(*arguments: str) -> None:
    programs.run(["ip", *arguments], what=f"do 'ip {' '.join(arguments)}'")


def _inside(namespace: str, act: Callable[[], T]) -> T:
    """Do something in a namespace, in a thread that enters it and ends; this one stays where it is."""

    def enter_and_act() -> T:
        with (NAMESPACES / namespace).open("rb") as handle:
            if _LIBC.setns(handle.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return act()

    try:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="namespace") as pool:
            return pool.submit(enter_and_act).result()
    except OSError as error:
        raise InfrastructureError(f"network namespace {namespace}: {error}") from None


def _hush() -> None:
    """Let the kernel neither speak on the bridges nor filter them; /proc shows a thread its own namespace."""
    for name, value in _QUIET.items():
        path = Path("/proc/sys/net") / name
        if path.exists():
            path.write_text(value)


def _open_tap(name: str) -> int:
    """Return a new tap, which is there until its descriptor is closed everywhere."""
    handle = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    except BaseException:
        os.close(handle)
        raise
    return handle
