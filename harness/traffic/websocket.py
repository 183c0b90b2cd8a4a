"""The browser's side of WebSocket (RFC 6455), as much as a console needs: binary messages both ways."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import struct
from typing import Self

from harness.traffic.probes import Wrong

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x2, 0x8, 0x9, 0xA
_FINAL, _MASKED = 0x80, 0x80
_LONGEST = 1 << 20


class WebSocket:
    """An open WebSocket whose messages are read as one stream of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take over a connection on which the handshake is done."""
        self._reader, self._writer = reader, writer
        self._seen = b""

    @classmethod
    async def open(
        cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str
    ) -> Self:
        """Ask a web server for a WebSocket.

        Raises:
            Wrong: it refuses, or its answer is not one to this request.
        """
        key = base64.b64encode(os.urandom(16))
        lines = (
            f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key.decode()}", "Sec-WebSocket-Protocol: binary",
        )  # fmt: skip
        writer.write("\r\n".join((*lines, "", "")).encode())
        status, *rows = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        if status.split(" ")[1:2] != ["101"]:
            raise Wrong(f"no WebSocket: {status!r}")
        headers = {name.strip().lower(): value.strip() for name, _, value in (r.partition(":") for r in rows)}
        # The digest is the protocol's; it protects nothing.
        expected = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()  # noqa: S324
        if headers.get("sec-websocket-accept") != expected:
            raise Wrong("the WebSocket was accepted for another request")
        return cls(reader, writer)

    async def read(self, count: int) -> bytes:
        """Return exactly so many bytes, of as many messages as it takes.

        Raises:
            Wrong: the server closes the WebSocket, or breaks the rules of the protocol.
            EOFError: the connection ended.
        """
        while len(self._seen) < count:
            self._seen += await self._next()
        data, self._seen = self._seen[:count], self._seen[count:]
        return data

    def write(self, data: bytes) -> None:
        """Send one binary message."""
        self._send(_BINARY, data)

    async def _next(self) -> bytes:
        """Return the data of the next frame that carries any, answering pings on the way."""
        while True:
            opcode, data = await self._frame()
            if opcode in (_BINARY, _CONTINUATION):
                return data
            if opcode == _PING:
                self._send(_PONG, data)
            elif opcode == _CLOSE:
                raise Wrong("the server closed the WebSocket")
            elif opcode != _PONG:
                raise Wrong(f"a frame of kind {opcode:#x}")

    async def _frame(self) -> tuple[int, bytes]:
        first, second = await self._reader.readexactly(2)
        if second & _MASKED:
            raise Wrong("a frame of the server is masked")
        length = second
        if length == 126:
            (length,) = struct.unpack(">H", await self._reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await self._reader.readexactly(8))
        if length > _LONGEST:
            raise Wrong(f"a frame of {length} bytes")
        return first & 0x0F, await self._reader.readexactly(length)

    def _send(self, opcode: int, data: bytes) -> None:
        """Send one frame; a browser's frames are masked, and what is sent here is always short."""
        if len(data) > 125:
            raise ValueError(f"{len(data)} bytes are too many for a short frame")
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        self._writer.write(bytes((_FINAL | opcode, _MASKED | len(data))) + mask + masked)
