"""Tenants: tiny guests behind a system VM, with clients and servers of the real protocols.

A tenant is the template's own kernel and an initramfs of busybox and a few virtio drivers. It has one NIC, is ready
some three seconds after QEMU's start under TCG, and is told what to do over a virtio-serial port, so that the network
under test carries nothing of the harness.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import shlex
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import InfrastructureError
from harness import initramfs
from harness.guest import Completed, GuestError

CONTROL_CHANNEL = "org.sysvm.tenant"
MEMORY_MIB = 96
KERNEL_ARGUMENTS = "console=ttyS0 quiet panic=-1"
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class TenantSpec:
    """A tenant as the network declares it: name, MAC and the address that DHCP will give."""

    name: str
    mac: str
    address: str


def write_initrd(path: Path, spec: TenantSpec, modules: dict[str, bytes]) -> None:
    """Write the initramfs of a tenant.

    Args:
        path: where to.
        spec: whose identity its web server tells.
        modules: kernel modules by file name, in the order in which they must be loaded.
    """
    files = {
        "init": (_HERE / "init.sh").read_bytes(),
        "bin/udhcpc.script": (_HERE / "udhcpc.sh").read_bytes(),
        "identity": f"tenant {spec.name}\n".encode(),
        "modules/order": "".join(f"{name}\n" for name in modules).encode(),
    }
    initramfs.write(path, files | {f"modules/{name}": content for name, content in modules.items()})


class Tenant:
    """A running tenant, told what to do over its control socket."""

    def __init__(self, name: str, control: Path) -> None:
        """Remember the host's end of the control port; connects with the first command."""
        self.name = name
        self.control = control
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._ids = itertools.count(1)

    def close(self) -> None:
        """Close the control socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._buffer = b""

    def wait_ready(self, deadline: float = 60.0) -> None:
        """Wait until a freshly booted tenant says that it serves.

        Raises:
            GuestError: it does not, in time.
        """
        self._answer("ready", time.monotonic() + deadline)

    def run(self, script: str, *, deadline: float = 30.0, check: bool = True) -> Completed:
        """Run a busybox shell script in the tenant.

        Raises:
            GuestError: no answer in time, or ``check`` is set and the status is not 0.
        """
        identifier = f"c{next(self._ids)}"
        request = f"{identifier} {base64.b64encode(script.encode()).decode()}\n".encode()
        started = time.monotonic()
        try:
            self._connection().sendall(request)
        except OSError as error:
            raise GuestError(f"tenant {self.name}: control port is gone: {error}") from None
        status, output = self._answer(identifier, started + deadline)
        completed = Completed(script, status, output, "", time.monotonic() - started)
        if check and status != 0:
            last = output.strip().splitlines()[-1:] or ["no output"]
            raise GuestError(f"tenant {self.name}: {script!r} ended with status {status}: {last[0]}")
        return completed

    def dhcp(self, deadline: float = 30.0) -> str:
        """Take an address by DHCP and return it.

        Raises:
            GuestError: no lease.
        """
        lease = "udhcpc -i eth0 -n -q -f -t 10 -T 2 -s /bin/udhcpc.script"
        self.run(f"ip link set eth0 up && {lease}", deadline=deadline)
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

    def _connection(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(str(self.control))
        return self._socket

    def _answer(self, identifier: str, end: float) -> tuple[int, str]:
        """Read lines until the one that answers ``identifier``; others are answers nobody waits for any more."""
        try:
            connection = self._connection()
            while True:
                line, found, rest = self._buffer.partition(b"\n")
                if found:
                    self._buffer = rest
                    words = line.decode(errors="replace").split(" ")
                    if words[0] == identifier:
                        return int(words[1]), base64.b64decode(words[2]).decode(errors="replace")
                    continue
                connection.settimeout(max(0.01, end - time.monotonic()))
                chunk = connection.recv(1 << 16)
                if not chunk:
                    raise GuestError(f"tenant {self.name}: control port closed")
                self._buffer += chunk
        except TimeoutError:
            raise GuestError(f"tenant {self.name}: no answer to {identifier} in time") from None
        except OSError as error:
            raise InfrastructureError(f"tenant {self.name}: control socket {self.control}: {error}") from None

    def __enter__(self) -> Tenant:
        """Return the tenant itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the control socket."""
        with contextlib.suppress(OSError):
            self.close()
