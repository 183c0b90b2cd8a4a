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


async def _text(stream: Stream) -> str:
    """Return a text that its length stands in front of."""
    (length,) = _LENGTH.unpack(await stream.read(_LENGTH.size))
    return await _string(stream, length)


async def _string(stream: Stream, length: int) -> str:
    if length > _LONGEST:
        raise Wrong(f"the VNC server announces a text of {length} bytes")
    return (await stream.read(length)).decode(errors="replace")
