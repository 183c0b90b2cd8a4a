"""A real VNC server, as a hypervisor offers it for each of its VMs: QEMU without a machine, but with a screen."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Self

from harness import children
from harness.domain import EMULATOR
from harness.ports import Ports

# What QEMU calls its screen, and with it the screen that a console must show.
NAME = "sysvm-console"
SCREEN = f"QEMU ({NAME})"
# VNC counts its displays from this port on.
_FIRST_PORT = 5900


class VncServer:
    """A VNC server on loopback whose screen is called ``SCREEN``, as a context manager."""

    def __init__(self, log: Path) -> None:
        """Prepare it; ``log`` is the file for what QEMU says."""
        self._log = log
        self._ports = Ports()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def arguments(self) -> list[str]:
        """Return the command."""
        display = f"127.0.0.1:{self.port - _FIRST_PORT}"
        return [EMULATOR, "-M", "none", "-nodefaults", "-name", NAME, "-vnc", display]

    def __enter__(self) -> Self:
        """Start it and wait until it listens.

        Raises:
            InfrastructureError: it does not come up.
        """
        self.port = self._ports.take()
        try:
            with self._log.open("wb") as log:
                self._process = children.start(self.arguments(), log)
            children.wait_listening(self._process, self.port, "the VNC server's QEMU", self._log)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        if self._process is not None:
            children.end(self._process)
        self._ports.release()
