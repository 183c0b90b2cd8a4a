"""A browser that uploads a file over TLS, slowly while something is done to the storage VM, and what it is told."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

# Bytes that go at a time, and seconds between two of them.
BLOCK, PAUSE = 16384, 0.5
# Seconds after which a browser that is told nothing stands still.
PATIENCE = 60.0
CREATED = 201


@dataclass(eq=False)
class Upload(threading.Thread):
    """An upload, in a thread of its own.

    Attributes:
        port: on loopback, that leads to the storage VM's port for TLS.
        identifier: what the server has announced.
        data: the file.
        half_sent: half of it is on its way.
        hurry: the rest may go at once.
        status: of the answer; 0 while there is none.
        told: why there is no answer, in words: the connection has ended.
        silent: neither came.
    """

    port: int
    identifier: str
    data: bytes
    half_sent: threading.Event = field(default_factory=threading.Event)
    hurry: threading.Event = field(default_factory=threading.Event)
    status: int = 0
    told: str = ""
    silent: bool = False

    def __post_init__(self) -> None:
        """Make it a thread."""
        super().__init__(name="upload", daemon=True)

    def run(self) -> None:
        """Upload, and keep what is told."""
        context = ssl.create_default_context()
        # A storage VM makes its first certificate itself.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=context)
        try:
            self.status = self._send(connection)
        except TimeoutError:
            self.silent = True
        except (OSError, http.client.HTTPException) as error:
            self.told = str(error) or type(error).__name__
        finally:
            connection.close()
            self.half_sent.set()

    def finish(self) -> str:
        """Let the rest go; returns what is wrong, or nothing where it is done or the browser was told."""
        self.hurry.set()
        self.join(2 * PATIENCE)
        if self.silent or self.is_alive():
            return f"the browser is told nothing for {PATIENCE:g} s"
        return ""

    def _send(self, connection: http.client.HTTPSConnection) -> int:
        connection.putrequest("POST", f"/upload/{self.identifier}")
        connection.putheader("Content-Length", str(len(self.data)))
        connection.putheader("Content-Type", "application/octet-stream")
        connection.endheaders()
        for block in self._blocks():
            connection.send(block)
        return connection.getresponse().status

    def _blocks(self) -> Iterator[bytes]:
        half = len(self.data) // 2
        yield self.data[:half]
        self.half_sent.set()
        for begin in range(half, len(self.data), BLOCK):
            self.hurry.wait(PAUSE)
            yield self.data[begin : begin + BLOCK]
