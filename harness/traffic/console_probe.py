"""The probe of a console proxy: what a browser does until it sees the screen of a VM."""

from __future__ import annotations

from dataclasses import dataclass

from harness.traffic import rfb
from harness.traffic.probes import Repeated, Wrong, connection
from harness.traffic.websocket import WebSocket


@dataclass(frozen=True)
class ConsoleProbe(Repeated):
    """A console that is opened anew each time: a WebSocket, and through it RFB up to the screen.

    ``screen`` is what the screen must be called: the name that the VNC server behind the proxy gave it.
    """

    screen: str
    path: str = "/websockify?token=any"

    async def ask(self) -> None:
        """Open the WebSocket, greet the VNC server through it, and look at its screen."""
        async with connection(self.host, self.port) as (reader, writer):
            seen = await rfb.greet(await WebSocket.open(reader, writer, self.host, self.path))
        if seen.name != self.screen:
            raise Wrong(f"the console shows {seen.name!r} instead of {self.screen!r}")
        if not seen.width or not seen.height:
            raise Wrong(f"the screen has {seen.width} x {seen.height} pixels")
