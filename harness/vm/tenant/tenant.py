"""Tenants: tiny guests around a system VM, with clients and servers of the real protocols.

A tenant guest is the template's own kernel and an initramfs of busybox and a few virtio drivers, ready some three
seconds after QEMU's start under TCG. It holds any number of hosts, each with a NIC and a network namespace of its own,
so a VPC with eleven tiers needs one tenant guest. Hosts are told what to do over a virtio-serial port, so that the
network under test carries nothing of the harness.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import count
from pathlib import Path

from harness.guest.connection import GuestError, SshCommandResult
from harness.image import initramfs
from harness.vm.tenant.control import Control

CONTROL_CHANNEL = "org.sysvm.tenant"
MEMORY_MIB = 128
KERNEL_ARGUMENTS = "console=ttyS0 no_timer_check quiet panic=-1"
# The name under which the guest itself, which has no NIC, runs scripts.
ITSELF = "guest"
_HERE = Path(__file__).parent / "guest"
_PROGRAMS = {
    "init": "init.sh",
    "bin/start-host": "start-host.sh",
    "bin/host": "host.sh",
    "bin/in-template": "in-template.sh",
    "bin/load-module": "load-module.sh",
    "bin/peer": "peer.sh",
    "bin/uplink": "uplink.sh",
    "bin/transit": "transit.sh",
    "bin/udhcpc.script": "udhcpc.sh",
}


@dataclass(frozen=True)
class TenantHost:
    """A host of a tenant guest.

    Attributes:
        name: what its web server answers: ``tenant NAME``.
        mac: of its one NIC.
        device: the system VM's NIC whose segment it is on, such as ``eth0``.
        address: with netmask for a fixed one; without for one that DHCP is going to give.
        gateway: its way out, for a fixed address.
        ports: TCP ports that echo.
        extra: further addresses that it answers at, with netmasks.
        address6: its fixed IPv6 address with prefix length; without it takes what a router advertises.
        gateway6: its way out by IPv6, for a fixed address.
    """

    name: str
    mac: str
    device: str
    address: str
    gateway: str = ""
    ports: tuple[int, ...] = (7, 22)
    extra: tuple[str, ...] = ()
    address6: str = ""
    gateway6: str = ""

    @property
    def fixed(self) -> bool:
        """True if the address is there from the start."""
        return "/" in self.address

    def line(self, nic: str) -> str:
        """Return the host's line for the guest, where its NIC is called ``nic``."""
        address = self.address if self.fixed else "dhcp"
        ports = ",".join(map(str, self.ports))
        by_ipv6 = (self.address6 or "-", self.gateway6 or "-")
        return " ".join([self.name, nic, address, self.gateway or "-", *by_ipv6, ports, *self.extra])


@dataclass(frozen=True)
class Uplink:
    """The joint of a segment and QEMU's user-mode network, so that loopback is on the segment, too.

    The user-mode network cannot be on it by itself: it resets the connections between others that it sees.

    Attributes:
        name: of the namespace in the guest.
        device: the system VM's NIC whose segment it is.
        network: the addresses of the segment.
        gateway: the address that the user-mode network, and with it loopback, has there.
        macs: of the NIC on the segment, and of the one on the user-mode network.
    """

    name: str
    device: str
    network: IPv4Network
    gateway: IPv4Address
    macs: tuple[str, str]

    def line(self, near: str, far: str) -> str:
        """Return the uplink's line for the guest, where its NICs are called ``near`` (the segment) and ``far``."""
        own = next(address for address in self.network.hosts() if address != self.gateway)
        return f"{self.name} {near} {far} {self.network} {self.gateway} {own}"


@dataclass(frozen=True)
class Transit:
    """The provider's router between two public networks: answers find their way to an address of the other one.

    Attributes:
        name: of the namespace in the guest.
        devices: the system VM's NICs whose segments it joins.
        addresses: its own in each, with netmasks.
        macs: of its NICs.
    """

    name: str
    devices: tuple[str, str]
    addresses: tuple[IPv4Interface, IPv4Interface]
    macs: tuple[str, str]

    def line(self, one: str, other: str) -> str:
        """Return the transit's line for the guest, where its NICs are called ``one`` and ``other``."""
        return f"{self.name} {one} {other} {self.addresses[0]} {self.addresses[1]}"


@dataclass(frozen=True)
class TenantSpec:
    """A tenant guest: its name, its hosts, then its uplinks and its transits, in the order of its NICs.

    Attributes:
        programs: its hosts can run the programs of the template, whose disk it has, too.
    """

    name: str
    hosts: tuple[TenantHost, ...]
    uplinks: tuple[Uplink, ...] = ()
    programs: bool = False
    transits: tuple[Transit, ...] = ()

    @property
    def memory_mib(self) -> int:
        """The size of its memory; files of the template that its hosts change lie there."""
        return MEMORY_MIB * 2 if self.programs else MEMORY_MIB


def write_initrd(path: Path, spec: TenantSpec, modules: dict[str, bytes], root_device: str) -> None:
    """Write the initramfs of a tenant guest.

    Args:
        path: where to.
        spec: whose hosts it has.
        modules: kernel modules by file name, in the order in which they must be loaded.
        root_device: where the template's file system is, for hosts that run its programs.
    """
    hosts = [host.line(f"eth{number}") for number, host in enumerate(spec.hosts)]
    devices = (f"eth{number}" for number in count(len(hosts)))
    uplinks = [uplink.line(next(devices), next(devices)) for uplink in spec.uplinks]
    transits = [transit.line(next(devices), next(devices)) for transit in spec.transits]
    files = {
        **{name: (_HERE / source).read_bytes() for name, source in _PROGRAMS.items()},
        "hosts": "".join(f"{line}\n" for line in hosts).encode(),
        "uplinks": "".join(f"{line}\n" for line in uplinks).encode(),
        "transits": "".join(f"{line}\n" for line in transits).encode(),
        "template-device": (root_device if spec.programs else "").encode(),
        "modules/order": "".join(f"{name}\n" for name in modules).encode(),
    }
    initramfs.write(path, files | {f"modules/{name}": content for name, content in modules.items()})


def connect(spec: TenantSpec, socket: Path) -> dict[str, Tenant]:
    """Return the hosts of a tenant guest by name; ``socket`` is the host's end of its control port."""
    control = Control(spec.name, socket)
    return {host.name: Tenant(host.name, control) for host in spec.hosts}


def start_host(control: Control, host: TenantHost, deadline: float) -> Tenant:
    """Start a host whose NIC was plugged into a running tenant guest a moment ago.

    Raises:
        GuestError: the guest does not find the NIC in time.
    """
    line = host.line("$device")
    script = (
        f"until device=$(grep -l {host.mac} /sys/class/net/*/address); do usleep 20000; done\n"
        "device=${device%/address}; device=${device##*/}\n"
        f'echo "{line}" >>/hosts && start-host {host.name} host $device'
    )
    Tenant(ITSELF, control).run(script, deadline=deadline)
    return Tenant(host.name, control)


class Tenant:
    """A host of a running tenant guest."""

    def __init__(self, name: str, control: Control) -> None:
        """Remember whom to ask."""
        self.name = name
        self.control = control

    def close(self) -> None:
        """Close the control port, for all hosts of the guest."""
        self.control.close()

    def wait_ready(self, deadline: float = 60.0) -> None:
        """Wait until a freshly booted tenant guest says that its hosts serve.

        Raises:
            GuestError: it does not, in time.
        """
        self.control.wait_ready(deadline)

    def run(self, script: str, *, deadline: float = 30.0, check: bool = True) -> SshCommandResult:
        """Run a busybox shell script on the host.

        Raises:
            GuestError: no answer in time, or ``check`` is set and the status is not 0.
        """
        started = time.monotonic()
        status, output = self.control.ask(self.name, script, deadline)
        completed = SshCommandResult(script, status, output, "", time.monotonic() - started)
        if check and status != 0:
            last = output.strip().splitlines()[-1:] or ["no output"]
            raise GuestError(f"tenant {self.name}: {script[:80]!r} ended with status {status}: {last[0]}")
        return completed

    def dhcp(self, deadline: float = 30.0) -> str:
        """Take an address by DHCP and return it.

        Raises:
            GuestError: no lease.
        """
        self.run("udhcpc -i eth0 -n -q -f -t 10 -T 2 -s /bin/udhcpc.script", deadline=deadline)
        return self.run("ip -4 -o address show dev eth0").stdout.split()[3].split("/")[0]

    def http(self, url: str, *, deadline: float = 20.0) -> str:
        """Fetch a URL and return its body."""
        # Not wget's own -T: with it, Debian 12's static busybox 1.35 crashes.
        return self.run(
            f"timeout {deadline / 2:.0f} wget -q -O - {shlex.quote(url)}", deadline=deadline
        ).stdout

    def resolve(self, name: str, server: str) -> str:
        """Ask a DNS server for a name; returns what nslookup prints."""
        return self.run(f"nslookup {shlex.quote(name)} {server}", deadline=20.0, check=False).stdout
