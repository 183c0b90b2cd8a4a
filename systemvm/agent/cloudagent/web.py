"""The little of HTTP that the agent's servers speak, and the door in front of them: caps and time limits."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Awaitable, Callable, Dict
from urllib.parse import parse_qsl

LONGEST_HEAD = 16384
# How long a client may take to fetch an answer.
_ANSWER_SECONDS = 10.0
_LINGER_SECONDS = 3.0
_MOST_TURNED_AWAY = 32

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

logger = logging.getLogger(__name__)


class Refusal(Exception):
    """A request is answered with a status and no more."""

    def __init__(self, status: str, reason: str = "") -> None:
        """Take the status, such as ``404 Not Found``, and a reason for the client."""
        super().__init__(f"{status}: {reason}" if reason else status)
        self.status, self.reason = status, reason


_FULL = Refusal("503 Service Unavailable", "too many connections")


@dataclass(frozen=True)
class Request:
    """The head of a request; names of headers are in lower case."""

    method: str
    path: str
    query: Dict[str, str]
    headers: Dict[str, str]


def parse_headers(head: bytes) -> "tuple[str, Dict[str, str]]":
    """Return the first line and the headers of a message.

    Raises:
        ValueError: a line is no header, or one that must be single comes twice.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: Dict[str, str] = {}
    for line in filter(None, lines):
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip():
            raise ValueError("a line is no header")
        if name in headers and name in ("content-length", "host", "origin", "transfer-encoding"):
            raise ValueError(f"{name} comes twice")
        headers[name] = value.strip()
    return first, headers


async def read_request(reader: asyncio.StreamReader, seconds: float) -> Request:
    """Return the next request's head.

    Raises:
        Refusal: there is none, it is too long, or it did not come in time.
    """
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), seconds)
        first, headers = parse_headers(head)
    except asyncio.TimeoutError:
        raise Refusal("408 Request Timeout") from None
    except asyncio.LimitOverrunError:
        raise Refusal("431 Request Header Fields Too Large") from None
    except (asyncio.IncompleteReadError, ValueError):
        raise Refusal("400 Bad Request") from None
    words = first.split(" ")
    if len(words) != 3 or not words[1].startswith("/") or not words[2].startswith("HTTP/1."):
        raise Refusal("400 Bad Request")
    path, _, query = words[1].partition("?")
    pairs: Dict[str, str] = {}
    for key, value in parse_qsl(query):
        pairs.setdefault(key, value)
    return Request(words[0], path, pairs, headers)


async def respond(writer: asyncio.StreamWriter, status: str, text: str = "") -> None:
    """Send a whole answer."""
    data = (text + "\n").encode("utf-8") if text else b""
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(data)}\r\n"
    writer.write(head.encode("latin-1") + b"Connection: close\r\n\r\n" + data)
    await asyncio.wait_for(writer.drain(), _ANSWER_SECONDS)


class Door:
    """Lets a bounded number of connections in, and sees that each is closed in the end."""

    def __init__(self, serve: Serve, most: int, most_each: int) -> None:
        """Take what serves a connection, and how many may be open: in all, and from one address."""
        self._serve, self._most, self._most_each = serve, most, most_each
        self._open: "Counter[str]" = Counter()
        self._turned_away = 0

    async def open(self, port: int, address: str) -> asyncio.AbstractServer:
        """Listen."""
        return await asyncio.start_server(self._enter, address, port, limit=LONGEST_HEAD)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = str((writer.get_extra_info("peername") or ("",))[0])
        try:
            if sum(self._open.values()) < self._most and self._open[peer] < self._most_each:
                await self._let_in(peer, reader, writer)
            elif self._turned_away < _MOST_TURNED_AWAY:
                await self._turn_away(reader, writer)
        finally:
            writer.close()
            # Closing waits until all is sent; a client that does not fetch it would keep its connection for ever.
            asyncio.get_event_loop().call_later(_ANSWER_SECONDS, writer.transport.abort)

    async def _let_in(self, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[peer] += 1
        try:
            await self._serve(reader, writer)
        except Refusal as refusal:
            await self._refuse(reader, writer, refusal)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            logger.info("a connection of %s ended: %s", peer, error or type(error).__name__)
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    async def _turn_away(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say that there is no room; who is told so takes none, and beyond some the next just see an end."""
        self._turned_away += 1
        try:
            await self._refuse(reader, writer, _FULL)
        finally:
            self._turned_away -= 1

    @staticmethod
    async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, refusal: Refusal) -> None:
        """Answer, and take what still comes for a moment: a connection closed before would lose the answer."""
        try:
            await respond(writer, refusal.status, refusal.reason)
            writer.write_eof()
            await asyncio.wait_for(_read_away(reader), _LINGER_SECONDS)
        except (OSError, asyncio.TimeoutError):
            logger.info("the client did not close")


async def _read_away(reader: asyncio.StreamReader) -> None:
    while await reader.read(LONGEST_HEAD):
        pass
