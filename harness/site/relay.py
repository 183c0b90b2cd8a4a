"""The far side of a NIC that leads to the management network: QEMU's user-mode network in a process of its own.

A system VM's own QEMU cannot do this: ``guestfwd`` to a character device knows no end of a connection, and ``guestfwd``
to a program is forbidden by the seccomp sandbox that libvirt puts around every VM. So the NIC's cable ends in a QEMU
that has no machine at all, only a network: ``restrict=on`` lets a guest reach the forwarded addresses and nothing else.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import InfrastructureError
from harness.host import servers
from harness.machine.domain import EMULATOR
from harness.site import splice
from harness.vm.cables import HostForward
from harness.vm.loopback import UdpCable


@dataclass(frozen=True)
class Relay:
    """A management network that runs.

    Attributes:
        process: its QEMU.
        log: file for what QEMU says.
    """

    process: subprocess.Popen[bytes]
    log: Path

    def require(self) -> None:
        """Make sure that it runs.

        Raises:
            InfrastructureError: it has ended; names its last words.
        """
        if self.process.poll() is not None:
            said = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            raise InfrastructureError(f"the management network's QEMU has ended; it said: {said[0]}")


@contextmanager
def run(
    cable: UdpCable, network: str, gateway: str, outward: Sequence[HostForward], log: Path
) -> Iterator[Relay]:
    """Run a management network; all connections through it end with it.

    Args:
        cable: this side's end; the other one is the system VM's NIC.
        network: its addresses, such as ``10.0.0.0/24``.
        gateway: the address that answers for the host.
        outward: addresses and ports that a guest can connect to, and the loopback port that each leads to.
        log: file for what QEMU says.
    """
    with servers.running(command(cable, network, gateway, outward), log) as process:
        yield Relay(process, log)


def command(cable: UdpCable, network: str, gateway: str, outward: Sequence[HostForward]) -> list[str]:
    """Return the command that ``run`` runs."""
    own = f"user,id=inside,net={network},host={gateway},restrict=on"
    for forward in outward:
        program = [sys.executable, "-I", "-S", splice.__file__, str(forward.host_port)]
        own += f",guestfwd=tcp:{forward.address}:{forward.port}-cmd:{shlex.join(program).replace(',', ',,')}"
    return [
        EMULATOR, "-M", "none", "-nodefaults", "-display", "none",
        "-netdev", own, "-netdev", "hubport,id=insideport,hubid=0,netdev=inside",
        *cable.arguments("cable"), "-netdev", "hubport,id=cableport,hubid=0,netdev=cable",
    ]  # fmt: skip
