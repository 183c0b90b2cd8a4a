"""The libvirt domain of one machine: typed description, XML by template, read back and checked.

Devices follow what the CloudStack 4.22 KVM agent defines, as far as a guest can observe them. Left out on purpose: the
VNC display and the USB tablet (nobody looks at it), and the empty CD drive of releases that upload their bundle.
A system VM has two processors where CloudStack gives it one (docs/adr/0008-two-processors.md).
NICs and the RAM file go through QEMU's own arguments: libvirt 9.0 has no port forwarding for user-mode networks, and
its shared memory backing cannot be told which file to use.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from bundle.errors import InfrastructureError
from harness.machine.accel import Accelerator

RAM_ID = "sysvm.ram"
EMULATOR = "/usr/bin/qemu-system-x86_64"
AGENT_CHANNEL = "org.qemu.guest_agent.0"


@dataclass(frozen=True)
class Channel:
    """A virtio-serial port and the UNIX socket that it is on the host."""

    name: str
    socket: Path


class NicBackend(Protocol):
    """The host's side of a NIC; see :mod:`harness.vm.cables`."""

    def arguments(self, netdev_id: str) -> list[str]:
        """Return QEMU's arguments that make a netdev of that id."""


@dataclass(frozen=True)
class Nic:
    """One virtio NIC; its place in the list is its place in the guest (eth0, eth1, …)."""

    mac: str
    backend: NicBackend
    slot: int

    def arguments(self, index: int) -> list[str]:
        """Return QEMU's arguments for the NIC and its backend."""
        device = f"virtio-net-pci,id=nic{index},netdev=net{index},mac={self.mac},bus=pci.0,addr={self.slot:#x},romfile="
        return [*self.backend.arguments(f"net{index}"), "-device", device]


@dataclass(frozen=True)
class DomainSpec:
    """Everything that a domain's XML says.

    Attributes:
        name: libvirt name, unique on the host.
        ram_file: file of the guest's RAM, or None for anonymous memory.
        ram_shared: writes reach the file (while a golden snapshot is made); else they stay private.
        incoming: start paused and wait for a device state.
    """

    name: str
    uuid: str
    accelerator: Accelerator
    console_socket: Path
    console_log: Path
    memory_mib: int = 512
    vcpus: int = 2
    description: str = "Debian GNU/Linux 12 (64-bit)"
    arch: str = "x86_64"
    machine: str = "pc"
    emulator: str = EMULATOR
    kernel: Path | None = None
    initrd: Path | None = None
    cmdline: str = ""
    disk: Path | None = None
    disk_cache: str = "none"
    disk_serial: str = ""
    disk_read_only: bool = False
    iso: Path | None = None
    channels: tuple[Channel, ...] = ()
    nics: tuple[Nic, ...] = ()
    watchdog: bool = False
    ram_file: Path | None = None
    ram_shared: bool = False
    incoming: bool = False

    def qemu_arguments(self) -> list[str]:
        """Return the arguments that libvirt passes through to QEMU."""
        # One name for the RAM wherever it lies: a state fits into any machine.
        size = f"id={RAM_ID},size={self.memory_mib}M"
        backend = f"memory-backend-ram,{size}"
        if self.ram_file is not None:
            share = "on" if self.ram_shared else "off"
            backend = f"memory-backend-file,{size},mem-path={self.ram_file},share={share}"
        arguments = ["-object", backend, "-machine", f"memory-backend={RAM_ID}"]
        for index, nic in enumerate(self.nics):
            arguments += nic.arguments(index)
        if self.accelerator.domain_type == "qemu" and self.arch == "x86_64":
            # A system VM asks virt-what, and waits for its command line only where that says kvm: emulation hides its
            # CPUID leaf, and the chassis says KVM. Else a genuine VM boots with what is there by chance.
            arguments += ["-global", f"{self.accelerator.cpu}-{self.arch}-cpu.tcg-cpuid=off"]
        if self.incoming:
            # Else QEMU makes the guest send gratuitous ARPs, as after a move; nobody here knew it elsewhere.
            arguments += ["-incoming", "defer", "-global", "migration.announce-rounds=0"]
        return arguments


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("harness.machine", "")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(
        "domain.xml.j2"
    )


def render(spec: DomainSpec) -> str:
    """Return the domain XML of ``spec``."""
    return str(_template().render(spec=spec))


def check(spec: DomainSpec, live_xml: str) -> None:
    """Compare what libvirt made with what was asked for.

    Raises:
        InfrastructureError: libvirt changed something that a guest would notice.
    """
    root = ET.fromstring(live_xml)  # noqa: S314 - libvirt's own document
    wanted = {
        "domain type": (root.get("type"), spec.accelerator.domain_type),
        "memory in KiB": (root.findtext("memory"), str(spec.memory_mib * 1024)),
        "vCPUs": (root.findtext("vcpu"), str(spec.vcpus)),
        "serial number": (root.findtext("sysinfo/system/entry[@name='serial']"), spec.uuid),
        "root disk": (
            (node := root.find("devices/disk[@device='disk']/source")) is not None and node.get("file"),
            str(spec.disk) if spec.disk else False,
        ),
        "channels": (
            sorted(t.get("name", "") for t in root.findall("devices/channel/target")),
            sorted(c.name for c in spec.channels),
        ),
    }
    for what, (seen, expected) in wanted.items():
        if seen != expected:
            raise InfrastructureError(f"{spec.name}: libvirt made {what} {seen!r} instead of {expected!r}")
