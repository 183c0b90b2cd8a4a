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


def parse_object(data: bytes) -> Frame:
    """Return a JSON object.

    Raises:
        ProtocolError: it is none, or so deep that Python gives up on it.
    """
    try:
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ProtocolError("no JSON object")
    return found


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """Return the next frame.

    Raises:
        ProtocolError: it is too long or no JSON object.
        asyncio.IncompleteReadError: the connection ended.
    """
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > LONGEST:
        raise ProtocolError(f"a frame of {length} bytes is longer than {LONGEST}")
    return parse_object(await reader.readexactly(length))


async def write_frame(writer: asyncio.StreamWriter, frame: Frame) -> None:
    """Send one frame."""
    data = json.dumps(frame, separators=(",", ":")).encode("utf-8")
    writer.write(_LENGTH.pack(len(data)) + data)
    await writer.drain()


def text_of(frame: Frame, key: str, default: "str | None" = None) -> str:
    """Return a text of a frame, without control characters.

    Raises:
        ValueError: it is missing and has no default, is no text, or holds a control character.
    """
    found = frame.get(key, default)
    if isinstance(found, str) and not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in found):
        return found
    raise ValueError(f"{key} is missing, no text, or holds a control character")


def number_of(frame: Frame, key: str, most: int, default: "int | None" = None) -> int:
    """Return a whole number of a frame, from 0 to ``most``.

    Raises:
        ValueError: it is missing and has no default, is no whole number, or out of the range.
    """
    found = frame.get(key, default)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= most:
        raise ValueError(f"{key} is missing or no whole number from 0 to {most}")
    return found
