"""The far side of a NIC that leads to the management network: QEMU's user-mode network in a process of its own.

A system VM's own QEMU cannot do this: ``guestfwd`` to a character device knows no end of a connection, and ``guestfwd``
to a program is forbidden by the seccomp sandbox that libvirt puts around every VM. So the NIC's cable ends in a QEMU
that has no machine at all, only a network: ``restrict=on`` lets a guest reach the forwarded addresses and nothing else.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from bundle.errors import InfrastructureError
from harness import children
from harness.domain import EMULATOR
from harness.management import splice
from harness.netdev import Forward, Link


class Relay:
    """A management network, as a context manager."""

    def __init__(
        self, cable: Link, network: str, gateway: str, outward: Sequence[Forward], log: Path
    ) -> None:
        """Prepare it.

        Args:
            cable: this side's end; the other one is the system VM's NIC.
            network: its addresses, such as ``10.0.0.0/24``.
            gateway: the address that answers for the host.
            outward: addresses and ports that a guest can connect to, and the loopback port that each leads to.
            log: file for what QEMU says.
        """
        self._cable, self._network, self._gateway = cable, network, gateway
        self._outward, self._log = tuple(outward), log
        self._process: subprocess.Popen[bytes] | None = None

    def arguments(self) -> list[str]:
        """Return the command."""
        own = f"user,id=inside,net={self._network},host={self._gateway},restrict=on"
        for forward in self._outward:
            program = [sys.executable, "-I", "-S", splice.__file__, str(forward.host_port)]
            command = shlex.join(program).replace(",", ",,")
            own += f",guestfwd=tcp:{forward.address}:{forward.port}-cmd:{command}"
        return [
            EMULATOR, "-M", "none", "-nodefaults", "-display", "none",
            "-netdev", own, "-netdev", "hubport,id=insideport,hubid=0,netdev=inside",
            *self._cable.arguments("cable"), "-netdev", "hubport,id=cableport,hubid=0,netdev=cable",
        ]  # fmt: skip

    def __enter__(self) -> Self:
        """Start it."""
        with self._log.open("wb") as log:
            self._process = children.start(self.arguments(), log)
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and with it all connections through it."""
        if self._process is not None:
            children.end(self._process)

    def require(self) -> None:
        """Make sure that it runs.

        Raises:
            InfrastructureError: it has ended; names its last words.
        """
        if self._process is None or self._process.poll() is not None:
            said = self._log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            raise InfrastructureError(f"the management network's QEMU has ended; it said: {said[0]}")
