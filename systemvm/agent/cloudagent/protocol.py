"""Frames between agent and management server: four bytes of length, then a JSON object."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any, Dict

Frame = Dict[str, Any]

LONGEST = 1 << 20
_LENGTH = struct.Struct(">I")


class ProtocolError(Exception):
    """The other side sent something that is no frame."""


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """Return the next frame.

    Raises:
        ProtocolError: it is too long or no JSON object.
        asyncio.IncompleteReadError: the connection ended.
    """
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > LONGEST:
        raise ProtocolError(f"a frame of {length} bytes is longer than {LONGEST}")
    try:
        frame = json.loads((await reader.readexactly(length)).decode("utf-8"))
    except ValueError as error:
        raise ProtocolError(f"a frame is no JSON: {error}") from None
    if not isinstance(frame, dict):
        raise ProtocolError("a frame is no JSON object")
    return frame


async def write_frame(writer: asyncio.StreamWriter, frame: Frame) -> None:
    """Send one frame."""
    data = json.dumps(frame, separators=(",", ":")).encode("utf-8")
    writer.write(_LENGTH.pack(len(data)) + data)
    await writer.drain()
