"""A real VNC server, as a hypervisor offers it for each of its VMs: QEMU without a machine, but with a screen."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from harness.host import servers
from harness.machine.domain import EMULATOR

# What QEMU calls its screen, and with it the screen that a console must show.
NAME = "sysvm-console"
SCREEN = f"QEMU ({NAME})"
# VNC counts its displays from this port on.
_FIRST_PORT = 5900


def serve(log: Path) -> AbstractContextManager[int]:
    """Serve a screen that is called ``SCREEN``; the context yields the port on 127.0.0.1.

    Args:
        log: file for what QEMU says.

    Raises:
        InfrastructureError: on entry, when it does not come up.
    """
    return servers.serve("the VNC server's QEMU", _command, log)


def _command(port: int) -> list[str]:
    display = f"127.0.0.1:{port - _FIRST_PORT}"
    return [EMULATOR, "-M", "none", "-nodefaults", "-name", NAME, "-vnc", display]
