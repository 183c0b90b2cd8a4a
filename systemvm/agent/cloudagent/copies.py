"""Copies of templates from the web server of another storage VM, or from any other, into a share."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from pathlib import Path
from typing import Optional, Set, Tuple

from .protocol import Frame, number_of, text_of
from .shares import Shares
from .sink import BLOCK, Sink, free_space
from .web import LONGEST_HEAD, parse_headers

_CONNECT_SECONDS = 20.0
_SOURCE = re.compile(r"(https?)://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?(/[!-~]*)")
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){0,7}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
LONGEST_COPY = 1 << 46


class Copies:
    """Fetches files."""

    def __init__(self, shares: Shares, seconds: float, *authorities: Path) -> None:
        """Take where copies go, how long a block may take, and certificates of CAs besides the system's."""
        self._shares, self._seconds, self._authorities = shares, seconds, authorities
        self._running: Set[Path] = set()

    @property
    def running(self) -> int:
        """Number of copies that are under way."""
        return len(self._running)

    async def copy(self, frame: Frame) -> Frame:
        """Copy ``from`` (http or https) to ``path`` below the share ``url``: whole, or not at all.

        Raises:
            ValueError: a field is wrong, or what came is not what was said.
            OSError: the share or the source cannot be reached, or there is no room.
        """
        source = _SOURCE.fullmatch(text_of(frame, "from"))
        path, wanted = text_of(frame, "path"), text_of(frame, "sha256", "")
        most = number_of(frame, "size", LONGEST_COPY, LONGEST_COPY)
        if source is None:
            raise ValueError("from is no URL of the form http://host/path or https://host/path")
        if not _PATH.fullmatch(path):
            raise ValueError(f"path={path!r} is no path below a share")
        if wanted and not _SHA256.fullmatch(wanted):
            raise ValueError("sha256 is no digest in hexadecimal")
        request = _request(source, text_of(frame, "user", ""), text_of(frame, "password", ""))
        target = (await self._shares.ensure(text_of(frame, "url"))) / path
        if target in self._running:
            raise ValueError(f"a copy to {path} is under way")
        self._running.add(target)
        try:
            size, digest = await self._fetch(source, request, target, most, wanted)
        finally:
            self._running.discard(target)
        return {"result": True, "size": size, "sha256": digest}

    async def _fetch(
        self, source: "re.Match[str]", request: bytes, path: Path, most: int, wanted: str
    ) -> Tuple[int, str]:
        tls = self._context() if source[1] == "https" else None
        port = int(source[3] or (443 if tls else 80))
        opening = asyncio.open_connection(source[2].strip("[]"), port, ssl=tls, limit=LONGEST_HEAD)
        reader, writer = await asyncio.wait_for(opening, _CONNECT_SECONDS)
        try:
            writer.write(request)
            size = await self._size(reader, most)
            if await free_space(path.parent) < size:
                raise OSError(f"there is no room for {size} bytes")
            async with Sink(path) as sink:
                left = size
                while left:
                    data = await asyncio.wait_for(reader.readexactly(min(left, BLOCK)), self._seconds)
                    await sink.write(data)
                    left -= len(data)
                if wanted and sink.sha256 != wanted:
                    raise ValueError(f"what came has the SHA-256 {sink.sha256}")
                await sink.keep()
                return size, sink.sha256
        finally:
            writer.transport.abort()

    async def _size(self, reader: asyncio.StreamReader, most: int) -> int:
        """Return how many bytes the answer announces."""
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self._seconds)
        first, headers = parse_headers(head)
        words = first.split(" ", 2)
        if len(words) < 2 or words[1] != "200":
            raise OSError(f"the source answers {first[:80]!r}")
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers or not re.fullmatch("[0-9]{1,18}", length):
            raise OSError("the source does not say how long the file is")
        if int(length) > most:
            raise ValueError(f"the file has {length} bytes, more than {most}")
        return int(length)

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        for path in self._authorities:
            if path.exists():
                context.load_verify_locations(str(path))
        return context


def _request(source: "re.Match[str]", user: str, password: str) -> bytes:
    """Return the request for a source; HTTP/1.0, because a file in pieces has no length."""
    host = source[2] + (f":{source[3]}" if source[3] else "")
    lines = [f"GET {source[4]} HTTP/1.0", f"Host: {host}", "Accept-Encoding: identity"]
    authorization = _basic(user, password)
    if authorization:
        lines.append(f"Authorization: {authorization}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _basic(user: str, password: str) -> Optional[str]:
    if not user:
        return None
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
