"""The browser's side of WebSocket (RFC 6455) on asyncio: messages both ways, read as one stream of bytes.

The protocol itself is wsproto's; this module carries its events over a connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

from wsproto import ConnectionType, WSConnection, events
from wsproto.connection import ConnectionState
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import ProtocolError

from harness.traffic.probes import Wrong

SUBPROTOCOL = "binary"
_BLOCK = 65536


class WebSocket:
    """An open WebSocket whose messages are read as one stream of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take over a connection; :meth:`open` does the handshake."""
        self._reader, self._writer = reader, writer
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._events: deque[events.Event] = deque()
        self._seen = bytearray()

    @classmethod
    async def open(
        cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str
    ) -> Self:
        """Ask a web server for a WebSocket, as a page that came from the same host does.

        Raises:
            Wrong: it refuses, or its answer is not one to this request.
            EOFError: the connection ended.
        """
        opened = cls(reader, writer)
        origin = [(b"Origin", f"http://{host}".encode())]
        opened._send(events.Request(host, path, subprotocols=[SUBPROTOCOL], extra_headers=origin))
        match await opened._next():
            case events.AcceptConnection():
                return opened
            case events.RejectConnection(status_code=status):
                raise Wrong(f"no WebSocket: status {status}")
            case event:
                raise Wrong(f"no answer to the handshake: {event}")

    async def read(self, count: int) -> bytes:
        """Return exactly so many bytes, of as many messages as it takes.

        Raises:
            Wrong: the server closes the WebSocket, or breaks the rules of the protocol.
            EOFError: the connection ended.
        """
        while len(self._seen) < count:
            match await self._next():
                case events.BytesMessage(data=data):
                    self._seen += data
                case events.Ping() as ping:
                    self._send(ping.response())
                case events.Pong():
                    pass
                case events.CloseConnection(code=code, reason=reason):
                    # wsproto says with the same event that it could not read a frame; the connection is open then.
                    if self._protocol.state is not ConnectionState.REMOTE_CLOSING:
                        raise Wrong(f"the server breaks the rules of WebSocket: {reason}")
                    raise Wrong(f"the server closed the WebSocket: {_reason(code)}")
                case event:
                    raise Wrong(f"the server sent what is no binary message: {type(event).__name__}")
        data, self._seen = bytes(self._seen[:count]), self._seen[count:]
        return data

    def write(self, data: bytes) -> None:
        """Send one binary message."""
        self._send(events.BytesMessage(data))

    def _send(self, event: events.Event) -> None:
        self._writer.write(self._protocol.send(event))

    async def _next(self) -> events.Event:
        """Return what the server says next."""
        while not self._events:
            data = await self._reader.read(_BLOCK)
            if not data:
                raise EOFError("the connection ended")
            try:
                self._protocol.receive_data(data)
                self._events.extend(self._protocol.events())
            except ProtocolError as error:
                raise Wrong(f"the server breaks the rules of WebSocket: {error}") from None
        return self._events.popleft()


def _reason(code: int) -> str:
    """Return a close code in words; applications have codes that the protocol does not name."""
    try:
        return f"{CloseReason(code).name.lower().replace('_', ' ')} ({int(code)})"
    except ValueError:
        return str(code)
