"""The viewer's side of RFB 3.8 (RFC 6143), the protocol of VNC, up to where the server has described its screen."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

from harness.traffic.probes import Wrong

VERSION = b"RFB 003.008\n"
_NO_PASSWORD = 1
_SHARED = b"\x01"
# Width, height, sixteen bytes about pixels, and the length of the name that follows.
_SERVER_INIT = struct.Struct(">HH16xI")
_LENGTH = struct.Struct(">I")
# A request for an update, whole or of what changed, of a place and a size; the head of an update; that of a rectangle.
_REQUEST, _UPDATE, _RECTANGLE = struct.Struct(">BBHHHH"), struct.Struct(">BxH"), struct.Struct(">HHHHi")
_ASK, _ANSWER, _RAW = 3, 0, 0
# The corner that is asked for, in pixels, and what a server may send for it, which knows changes by larger tiles; a
# pixel of four bytes, as servers of today have it.
_CORNER, _MOST_PIXELS, _PIXEL = 16, 1 << 22, 4
_LONGEST = 1024


class Stream(Protocol):
    """A connection to a VNC server, by whatever way."""

    async def read(self, count: int) -> bytes:
        """Return exactly so many bytes."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...


@dataclass(frozen=True)
class Screen:
    """A server's description of its screen."""

    width: int
    height: int
    name: str


async def greet(stream: Stream) -> Screen:
    """Greet a server as a viewer does that lets others look on, and return its screen.

    Raises:
        Wrong: the server is none of RFB 3.8, wants a password, or refuses.
    """
    version = await stream.read(len(VERSION))
    if version != VERSION:
        raise Wrong(f"no VNC server of version 3.8: {version!r}")
    stream.write(VERSION)
    (count,) = await stream.read(1)
    if not count:
        raise Wrong(f"the VNC server refuses: {await _text(stream)}")
    kinds = await stream.read(count)
    if _NO_PASSWORD not in kinds:
        raise Wrong(f"the VNC server wants a password: it offers {sorted(kinds)}")
    stream.write(bytes((_NO_PASSWORD,)))
    (refused,) = _LENGTH.unpack(await stream.read(_LENGTH.size))
    if refused:
        raise Wrong(f"the VNC server refuses: {await _text(stream)}")
    stream.write(_SHARED)
    width, height, length = _SERVER_INIT.unpack(await stream.read(_SERVER_INIT.size))
    return Screen(width, height, await _string(stream, length))


async def look(stream: Stream) -> None:
    """Ask a server, once greeted, for a corner of its screen and read it.

    Raises:
        Wrong: what comes is no update, or not in the form that a viewer who has asked for none gets.
    """
    stream.write(_REQUEST.pack(_ASK, 0, 0, 0, _CORNER, _CORNER))
    kind, count = _UPDATE.unpack(await stream.read(_UPDATE.size))
    if kind != _ANSWER:
        raise Wrong(f"a message of kind {kind} instead of an update")
    for _ in range(count):
        _, _, width, height, form = _RECTANGLE.unpack(await stream.read(_RECTANGLE.size))
        if form != _RAW or width * height > _MOST_PIXELS:
            raise Wrong(f"a rectangle of {width} x {height} in form {form}")
        await stream.read(width * height * _PIXEL)


async def _text(stream: Stream) -> str:
    """Return a text that its length stands in front of."""
    (length,) = _LENGTH.unpack(await stream.read(_LENGTH.size))
    return await _string(stream, length)


async def _string(stream: Stream, length: int) -> str:
    if length > _LONGEST:
        raise Wrong(f"the VNC server announces a text of {length} bytes")
    return (await stream.read(length)).decode(errors="replace")
