"""The server's side of WebSocket (RFC 6455), as much as a console needs: binary messages both ways, ping, close."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import struct
from typing import Dict, Optional, Tuple

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
GOING_AWAY, PROTOCOL_ERROR = 1001, 1002
# What a browser sends to a VNC server is short; the longest is a clipboard.
LONGEST_FRAME = 1 << 18
LONGEST_CONTROL = 125


class HandshakeError(Exception):
    """The request is no WebSocket handshake."""


class FrameError(Exception):
    """The client broke the rules of the protocol."""


def accept(headers: Dict[str, str]) -> bytes:
    """Return the response that accepts a handshake.

    Raises:
        HandshakeError: the headers ask for no WebSocket of version 13.
    """
    key = headers.get("sec-websocket-key", "")
    upgrade = headers.get("upgrade", "").lower()
    if upgrade != "websocket" or headers.get("sec-websocket-version") != "13" or not _is_key(key):
        raise HandshakeError("not a WebSocket handshake of version 13")
    # The digest is the protocol's; it protects nothing.
    digest = base64.b64encode(hashlib.sha1(key.encode("ascii") + _GUID).digest()).decode()  # noqa: S324
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines.append(f"Sec-WebSocket-Accept: {digest}")
    offered = [word.strip() for word in headers.get("sec-websocket-protocol", "").split(",")]
    if "binary" in offered:
        lines.append("Sec-WebSocket-Protocol: binary")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _is_key(text: str) -> bool:
    """Tell whether it is 16 bytes in base64, as the protocol wants."""
    try:
        return len(base64.b64decode(text.encode("ascii"), validate=True)) == 16
    except (UnicodeEncodeError, binascii.Error):
        return False


def frame(opcode: int, data: bytes) -> bytes:
    """Return one unmasked frame, as servers send them."""
    length = len(data)
    if length < 126:
        head = struct.pack(">BB", 0x80 | opcode, length)
    elif length < 65536:
        head = struct.pack(">BBH", 0x80 | opcode, 126, length)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 127, length)
    return head + data


def closing(code: int, reason: str) -> bytes:
    """Return the frame that closes, with a code and a reason in ASCII."""
    return frame(CLOSE, struct.pack(">H", code) + reason.encode("ascii")[: LONGEST_CONTROL - 2])


async def read_frame(reader: asyncio.StreamReader) -> Tuple[int, bytes]:
    """Return opcode and data of the client's next frame.

    Raises:
        FrameError: it is not masked, too long, or of a kind that nobody agreed on.
        asyncio.IncompleteReadError: the connection ended.
    """
    first, second = await reader.readexactly(2)
    opcode, length = first & 0x0F, second & 0x7F
    if first & 0x70 or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        raise FrameError(f"a frame that begins with {first:#04x}")
    if not second & 0x80:
        raise FrameError("a frame of the client is not masked")
    if opcode & 0x08 and (length > LONGEST_CONTROL or not first & 0x80):
        raise FrameError("a control frame is too long or in pieces")
    if length == 126:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack(">Q", await reader.readexactly(8))
    if length > LONGEST_FRAME:
        raise FrameError(f"a frame of {length} bytes is longer than {LONGEST_FRAME}")
    mask = await reader.readexactly(4)
    return opcode, unmask(await reader.readexactly(length), mask)


def unmask(data: bytes, mask: bytes) -> bytes:
    """Undo the masking of a client's data; as numbers, because byte by byte is a hundred times slower."""
    if not data:
        return data
    pattern = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pattern, "big")).to_bytes(len(data), "big")


async def next_message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Optional[bytes]:
    """Return the data of the next frame that carries any, answering pings on the way; None when the client closes."""
    while True:
        opcode, data = await read_frame(reader)
        if opcode in (TEXT, BINARY, CONTINUATION):
            return data
        if opcode == PING:
            writer.write(frame(PONG, data))
            await writer.drain()
        elif opcode == CLOSE:
            writer.write(frame(CLOSE, data[:2]))
            await writer.drain()
            return None
