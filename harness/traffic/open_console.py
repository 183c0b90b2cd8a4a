"""A console that stays open: somebody looks at a screen, and is either shown it on and on, or told that it is over."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field

from harness.traffic import rfb
from harness.traffic.probes import Wrong, connection
from harness.traffic.websocket import WebSocket

# Seconds between two looks at the screen, and those after which a look has failed.
PAUSE, PATIENCE = 0.5, 10.0
PATH = "/websockify?token=any"


@dataclass(eq=False)
class OpenConsole(threading.Thread):
    """A browser with one console, in a thread of its own.

    Attributes:
        host: of the console proxy.
        port: of the console proxy.
        looks: how often it has seen the screen.
        told: why it is over, in words; empty while it is open.
        silent: it asked for the screen and neither got it nor was told anything.
    """

    host: str
    port: int
    looks: int = 0
    told: str = ""
    silent: bool = False
    _stop_looking: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Make it a thread."""
        super().__init__(name="console", daemon=True)

    def run(self) -> None:
        """Look until somebody calls ``close``, or the console ends."""
        try:
            asyncio.run(self._look())
        except TimeoutError:
            self.silent = True
        except (Wrong, EOFError, OSError) as error:
            self.told = str(error) or type(error).__name__

    def opened(self, seconds: float) -> bool:
        """Wait until the screen was seen once; says whether it was."""
        end = time.monotonic() + seconds
        while not self.looks and self.is_alive() and time.monotonic() < end:
            time.sleep(0.05)
        return bool(self.looks)

    def close(self) -> str:
        """Look once more, then close; returns what is wrong with how it went, or nothing."""
        self._stop_looking.set()
        self.join(3 * PATIENCE)
        if self.silent or self.is_alive():
            return f"the screen stands still since its {self.looks}. look, and nobody says why"
        return ""

    async def _look(self) -> None:
        async with connection(self.host, self.port) as (reader, writer):
            socket = await asyncio.wait_for(WebSocket.open(reader, writer, self.host, PATH), PATIENCE)
            await asyncio.wait_for(rfb.greet(socket), PATIENCE)
            last = False
            while not last:
                last = self._stop_looking.is_set()
                await asyncio.wait_for(rfb.look(socket), PATIENCE)
                self.looks += 1
                await asyncio.sleep(PAUSE)
