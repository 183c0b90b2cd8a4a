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
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar, get_args

from bundle.errors import InfrastructureError, UsageError
from harness.host.hypervisor import PREFIX
from harness.machine.domain import Nic
from harness.machine.machine import Machine
from harness.vm.cables import Bridge, Cable

T = TypeVar("T")
NetworkBackend = Literal["loopback", "taps"]
_KNOWN: dict[str, NetworkBackend] = {word: word for word in get_args(NetworkBackend)}
VARIABLE = "SYSVM_NETWORK_BACKEND"
# Where ip(8) keeps named namespaces.
NAMESPACES = Path("/run/netns")
_TUN = Path("/dev/net/tun")
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


def find(word: str | None = None) -> NetworkBackend:
    """Return how segments are made: as asked for, else as ``SYSVM_NETWORK_BACKEND`` says, else on loopback.

    Raises:
        UsageError: there is no such way, or this process cannot go it.
    """
    name, source = (word, "network backend") if word else (os.environ.get(VARIABLE) or "loopback", VARIABLE)
    if name not in _KNOWN:
        raise UsageError(f"invalid {source} {name!r} (expected {' or '.join(_KNOWN)})")
    if name == "taps" and (reason := _missing()):
        raise UsageError(f"network backend 'taps' {reason}", hint="'loopback' needs nothing of that")
    return _KNOWN[name]


def _missing() -> str:
    """Return what this process lacks, or nothing."""
    if os.geteuid() != 0:
        return "is for root only"
    if shutil.which("ip") is None:
        return "needs the program ip (Debian package iproute2)"
    if not _TUN.is_char_device():
        return f"needs {_TUN} (kernel module tun)"
    return ""


def lay(cables: Iterable[Cable]) -> None:
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


def plug(machine: Machine, nics: Iterable[Nic]) -> None:
    """Lead a tap from each bridge among the backends of NICs to the hub in a machine's QEMU that the NICs are on.

    Raises:
        InfrastructureError: kernel, libvirt or QEMU refuses.
    """
    for bridge in _bridges(nic.backend for nic in nics):
        _plug(machine, bridge)


def _bridges(ends: Iterable[object]) -> list[Bridge]:
    """Return the bridges, each once."""
    return list(dict.fromkeys(end for end in ends if isinstance(end, Bridge)))


def _plug(machine: Machine, bridge: Bridge) -> None:
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


def remove(namespace: str) -> None:
    """Remove a namespace with its bridges; a tap that a QEMU still holds goes with that QEMU."""
    path = NAMESPACES / namespace
    if path.exists():
        try:
            _ip("netns", "delete", namespace)
        except InfrastructureError:
            if path.exists():  # else another command's reaper was faster
                raise


def remove_run(run_id: str) -> None:
    """Remove all namespaces of a run."""
    for path in NAMESPACES.glob(f"{PREFIX}{run_id}-*"):
        remove(path.name)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InfrastructureError(f"'ip {' '.join(arguments)}' failed: {done.stderr.strip()}")


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
