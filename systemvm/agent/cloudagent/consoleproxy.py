"""Console proxy: browsers reach the VNC server of a VM through a WebSocket.

A browser brings a token. What the token stands for, only the management server knows, so it is asked each time.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Awaitable, Callable, Dict, Tuple

from . import websocket
from .connection import Handler
from .limits import Limits
from .protocol import Frame
from .web import Door, Refusal, Request, read_request

PORT_FILE = Path("/root/vncport")
DEFAULT_PORT = 8080
_BLOCK = 65536
# For the connection to a VNC server, and for the last frame of a console that ends.
_VNC_SECONDS = 10.0
_FAREWELL_SECONDS = 2.0

Ask = Callable[[Frame], Awaitable[Frame]]
Streams = Tuple[asyncio.StreamReader, asyncio.StreamWriter]

logger = logging.getLogger(__name__)


def listening_port(path: Path = PORT_FILE) -> int:
    """Return the port that browsers come to, as the boot wrote it down."""
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError):
        return DEFAULT_PORT


def same_origin(headers: Dict[str, str]) -> bool:
    """Tell whether the page that asks came from this host.

    A browser always names the origin of the page; what is no browser has none, and no user whose rights a foreign page
    could borrow. Ports are not compared: the page comes from 80 or 443, the console from another port.
    """
    origin = headers.get("origin")
    if origin is None:
        return True
    scheme, separator, place = origin.partition("://")
    host = _host_of(headers.get("host", ""))
    return scheme in ("http", "https") and bool(separator) and bool(host) and _host_of(place) == host


def _host_of(place: str) -> str:
    """Return a host in lower case without its port; brackets of IPv6 stay."""
    end = place.rfind("]") + 1
    return (place[:end] or place.partition(":")[0]).lower()


class ConsoleProxy:
    """Accepts browsers and connects them."""

    def __init__(self, ask: Ask, limits: Limits) -> None:
        """Take the way to ask the management server, and the limits."""
        self._ask, self._limits = ask, limits
        self._sessions = 0

    def handlers(self) -> Dict[str, Handler]:
        """Return what the management server may ask."""
        return {"check_health": self._health}

    async def _health(self, _frame: Frame) -> Frame:
        return {"result": True, "details": "ok", "sessions": self._sessions}

    async def start(self, port: int, address: str = "0.0.0.0") -> asyncio.AbstractServer:
        """Listen for browsers."""
        door = Door(self._session, self._limits.consoles, self._limits.consoles_each)
        return await door.open(port, address)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader, self._limits.request)
        handshake = _handshake(request)
        vnc = await self._vnc(request.query.get("token", ""))
        self._sessions += 1
        try:
            writer.write(handshake)
            await _Bridge((reader, writer), vnc, self._limits.console_idle).run()
        finally:
            self._sessions -= 1
            vnc[1].close()

    async def _vnc(self, token: str) -> Streams:
        """Return a connection to the VNC server that a token stands for.

        Raises:
            Refusal: the token is not good, nobody can say so, or the server cannot be reached.
        """
        try:
            answer = await self._ask({"command": "console_access", "token": token})
        except (ConnectionError, asyncio.TimeoutError):
            raise Refusal("503 Service Unavailable") from None
        if answer.get("allowed") is not True:
            raise Refusal("403 Forbidden")
        try:
            opening = asyncio.open_connection(str(answer["host"]), int(answer["port"]))
            return await asyncio.wait_for(opening, _VNC_SECONDS)
        except (OSError, OverflowError, ValueError, TypeError, KeyError, asyncio.TimeoutError) as error:
            logger.warning("no VNC server: %s", error or type(error).__name__)
            raise Refusal("502 Bad Gateway") from None


def _handshake(request: Request) -> bytes:
    """Return the answer to a request for a console.

    Raises:
        Refusal: it is none, or comes from a page of another host.
    """
    if request.path != "/websockify":
        raise Refusal("404 Not Found")
    if request.method != "GET":
        raise Refusal("405 Method Not Allowed")
    if not same_origin(request.headers):
        raise Refusal("403 Forbidden", "the page that asks is of another host")
    try:
        return websocket.accept(request.headers)
    except websocket.HandshakeError:
        raise Refusal("400 Bad Request") from None


class _Bridge:
    """Carries bytes both ways until one side ends, or neither has said anything for a while."""

    def __init__(self, browser: Streams, vnc: Streams, idle: float) -> None:
        self._browser, self._vnc, self._idle = browser, vnc, idle
        self._moved = 0.0

    async def run(self) -> None:
        """Carry."""
        self._touch()
        tasks = {asyncio.ensure_future(way()) for way in (self._to_vnc, self._to_browser, self._watch)}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            farewell = task.result()
            if farewell:
                self._browser[1].write(farewell)
                await asyncio.wait_for(self._browser[1].drain(), _FAREWELL_SECONDS)

    def _touch(self) -> None:
        self._moved = asyncio.get_event_loop().time()

    async def _to_vnc(self) -> bytes:
        while True:
            try:
                data = await websocket.next_message(*self._browser)
            except websocket.FrameError as error:
                logger.info("a browser breaks the rules: %s", error)
                return websocket.closing(websocket.PROTOCOL_ERROR, str(error))
            if data is None:
                return b""
            self._vnc[1].write(data)
            await self._vnc[1].drain()
            self._touch()

    async def _to_browser(self) -> bytes:
        while True:
            data = await self._vnc[0].read(_BLOCK)
            if not data:
                return websocket.frame(websocket.CLOSE, b"")
            self._browser[1].write(websocket.frame(websocket.BINARY, data))
            await self._browser[1].drain()
            self._touch()

    async def _watch(self) -> bytes:
        while True:
            left = self._moved + self._idle - asyncio.get_event_loop().time()
            if left <= 0:
                logger.info("a console was idle for %g s", self._idle)
                return websocket.closing(websocket.GOING_AWAY, "idle")
            await asyncio.sleep(left)
