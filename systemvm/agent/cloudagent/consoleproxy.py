"""Console proxy: browsers reach the VNC server of a VM through a WebSocket.

A browser brings a token. What the token stands for, only the management server knows, so it is asked each time.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Awaitable, Callable, Dict

from . import websocket
from .connection import Handler
from .protocol import Frame

PORT_FILE = Path("/root/vncport")
DEFAULT_PORT = 8080
_BLOCK = 65536

Ask = Callable[[Frame], Awaitable[Frame]]

logger = logging.getLogger(__name__)


def listening_port(path: Path = PORT_FILE) -> int:
    """Return the port that browsers come to, as the boot wrote it down."""
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError):
        return DEFAULT_PORT


class ConsoleProxy:
    """Accepts browsers and connects them."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._sessions = 0

    def handlers(self) -> Dict[str, Handler]:
        """Return what the management server may ask."""
        return {"check_health": self._health}

    async def _health(self, _frame: Frame) -> Frame:
        return {"result": True, "details": "ok", "sessions": self._sessions}

    async def start(self, port: int, address: str = "0.0.0.0") -> asyncio.AbstractServer:
        """Listen for browsers."""
        return await asyncio.start_server(self._accept, address, port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._session(reader, writer)
        except (OSError, EOFError, websocket.FrameError, asyncio.TimeoutError) as error:
            logger.info("console session ended: %s", error or type(error).__name__)
        finally:
            writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path, query, headers = await asyncio.wait_for(websocket.read_request(reader), 10)
            if path != "/websockify":
                return await _refuse(writer, "404 Not Found")
            handshake = websocket.accept(headers)
        except websocket.HandshakeError:
            return await _refuse(writer, "400 Bad Request")
        try:
            answer = await self._ask({"command": "console_access", "token": query.get("token", "")})
        except (ConnectionError, asyncio.TimeoutError):
            return await _refuse(writer, "503 Service Unavailable")
        if not answer.get("allowed"):
            return await _refuse(writer, "403 Forbidden")
        try:
            vnc = await asyncio.wait_for(asyncio.open_connection(answer["host"], int(answer["port"])), 10)
        except (OSError, asyncio.TimeoutError):
            return await _refuse(writer, "502 Bad Gateway")
        writer.write(handshake)
        await writer.drain()
        self._sessions += 1
        try:
            await _bridge(reader, writer, *vnc)
        finally:
            self._sessions -= 1
            vnc[1].close()


async def _refuse(writer: asyncio.StreamWriter, status: str) -> None:
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode("latin-1"))
    await writer.drain()


async def _bridge(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    vnc_reader: asyncio.StreamReader,
    vnc_writer: asyncio.StreamWriter,
) -> None:
    """Carry bytes both ways until one side ends."""

    async def to_vnc() -> None:
        while True:
            data = await websocket.next_message(reader, writer)
            if data is None:
                return
            vnc_writer.write(data)
            await vnc_writer.drain()

    async def to_browser() -> None:
        while True:
            data = await vnc_reader.read(_BLOCK)
            writer.write(websocket.frame(websocket.BINARY if data else websocket.CLOSE, data))
            await writer.drain()
            if not data:
                return

    tasks = {asyncio.ensure_future(to_vnc()), asyncio.ensure_future(to_browser())}
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
