"""Uploads of volumes and templates: taken from the web server in front, when management has announced them."""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional

from .limits import Limits
from .protocol import Frame, number_of, text_of
from .shares import MOUNTS, Shares
from .sink import BLOCK, Sink, free_space
from .web import LONGEST_HEAD, Door, Refusal, Request, read_request, respond

ADDRESS, PORT = "127.0.0.1", 8210
LONGEST_UPLOAD = 1 << 46
LONGEST_VALIDITY, DEFAULT_VALIDITY = 7 * 86400, 86400
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_BOUNDARY = re.compile(
    r'multipart/form-data\s*;\s*boundary="?([A-Za-z0-9\'()+_,./:=?-]{1,70})"?', re.IGNORECASE
)
# Fields of a form besides the file, and what they and the boundaries may take.
_MOST_FIELDS, _FORM_BYTES = 16, 1 << 16

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Announced:
    folder: Path
    size: int
    until: float


class Body:
    """The body of a request: never more than its length says, and each block in time."""

    def __init__(self, reader: asyncio.StreamReader, length: int, seconds: float) -> None:
        """Take where it comes from, its length, and how long one block may take."""
        self._reader, self.left, self._seconds = reader, length, seconds

    async def exactly(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            Refusal: there are not so many, or they did not come in time.
        """
        if count > self.left:
            raise Refusal("400 Bad Request", "the body is shorter than it must be")
        data = await self._in_time(self._reader.readexactly(count))
        self.left -= count
        return data

    async def until(self, mark: bytes) -> bytes:
        """Return what comes up to a mark, the mark included.

        Raises:
            Refusal: the mark does not come, is too far away, or did not come in time.
        """
        data = await self._in_time(self._reader.readuntil(mark))
        if len(data) > self.left:
            raise Refusal("400 Bad Request", "the body is longer than its length")
        self.left -= len(data)
        return data

    async def _in_time(self, reading: "asyncio.Future[bytes]") -> bytes:
        try:
            return await asyncio.wait_for(reading, self._seconds)
        except asyncio.TimeoutError:
            raise Refusal("408 Request Timeout", "the upload is too slow") from None
        except asyncio.LimitOverrunError:
            raise Refusal(
                "400 Bad Request", f"a part of the form is longer than {LONGEST_HEAD} bytes"
            ) from None
        except asyncio.IncompleteReadError:
            raise Refusal("400 Bad Request", "the upload ended early") from None


class Uploads:
    """Lets in what was announced, once, and no byte more."""

    def __init__(self, shares: Shares, limits: Limits) -> None:
        """Take the shares that uploads go to, and the limits."""
        self._shares, self._limits = shares, limits
        self._announced: Dict[str, _Announced] = {}
        self._running: "set[str]" = set()

    @property
    def running(self) -> int:
        """Number of uploads that are coming in."""
        return len(self._running)

    async def expect(self, frame: Frame) -> Frame:
        """Let one upload in: only what was announced is taken, and no more bytes than announced.

        Raises:
            ValueError: a field is wrong, or too many are announced.
            OSError: the share cannot be mounted.
        """
        identifier = text_of(frame, "upload")
        size = number_of(frame, "size", LONGEST_UPLOAD)
        seconds = number_of(frame, "seconds", LONGEST_VALIDITY, DEFAULT_VALIDITY)
        if not _IDENTIFIER.fullmatch(identifier):
            raise ValueError(f"{identifier!r} is no identifier of an upload")
        folder = await self._shares.ensure(text_of(frame, "url")) if "url" in frame else MOUNTS
        self._forget_old()
        if identifier not in self._announced and len(self._announced) >= self._limits.announced:
            raise ValueError(f"{len(self._announced)} uploads are announced already")
        self._announced[identifier] = _Announced(folder / "upload", size, time.monotonic() + seconds)
        return {"result": True}

    def _forget_old(self) -> None:
        now = time.monotonic()
        self._announced = {
            name: row for name, row in self._announced.items() if row.until > now or name in self._running
        }

    async def start(self, port: int = PORT, address: str = ADDRESS) -> asyncio.AbstractServer:
        """Listen for the web server."""
        # More connections than uploads: who is refused must not keep others out while he is told so.
        most = self._limits.uploads * 4
        return await Door(self._serve, most, most).open(port, address)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader, self._limits.request)
        identifier = _identifier_of(request)
        self._forget_old()
        announced = self._announced.get(identifier)
        if announced is None:
            raise Refusal("403 Forbidden", "this upload was not announced, or is over")
        if identifier in self._running:
            raise Refusal("409 Conflict", "this upload is coming in already")
        if len(self._running) >= self._limits.uploads:
            raise Refusal("503 Service Unavailable", "too many uploads")
        self._running.add(identifier)
        try:
            body, boundary = self._body_of(request, announced, reader)
            await _require_space(announced)
            if request.headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await _receive(body, boundary, announced, announced.folder / identifier)
            del self._announced[identifier]
        except Refusal as refusal:
            logger.warning("upload %s: %s", identifier, refusal)
            raise
        except OSError as error:
            logger.warning("upload %s: %s", identifier, error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Refusal("507 Insufficient Storage", "there is no room left") from None
            raise Refusal("500 Internal Server Error", "the upload could not be written") from None
        finally:
            self._running.discard(identifier)
        logger.info("upload %s: complete", identifier)
        await respond(writer, "201 Created", "upload successful")

    def _body_of(
        self, request: Request, announced: _Announced, reader: asyncio.StreamReader
    ) -> "tuple[Body, Optional[bytes]]":
        """Return the body of an upload, and the boundary if it is a form."""
        length = request.headers.get("content-length", "")
        if "transfer-encoding" in request.headers or not re.fullmatch("[0-9]{1,18}", length):
            raise Refusal("411 Length Required")
        kind = request.headers.get("content-type", "")
        form = _BOUNDARY.fullmatch(kind)
        if kind.lower().startswith("multipart/") and not form:
            raise Refusal("415 Unsupported Media Type")
        size = int(length)
        most = announced.size + (_FORM_BYTES if form else 0)
        if size > most:
            raise Refusal("413 Payload Too Large", f"{announced.size} bytes were announced")
        if size < announced.size:
            raise Refusal("400 Bad Request", f"{announced.size} bytes were announced")
        return Body(reader, size, self._limits.block), form[1].encode("ascii") if form else None


def _identifier_of(request: Request) -> str:
    """Return whose upload it is: ``/upload?uuid=…``, or ``/upload/…`` of a web server set up by an older release.

    Raises:
        Refusal: it is no upload.
    """
    if request.method not in ("POST", "PUT"):
        raise Refusal("405 Method Not Allowed")
    if request.path == "/upload":
        return request.query.get("uuid", "")
    folder, _, name = request.path.rpartition("/")
    if folder != "/upload":
        raise Refusal("404 Not Found")
    return name


async def _require_space(announced: _Announced) -> None:
    if await free_space(announced.folder) < announced.size:
        raise Refusal("507 Insufficient Storage", "there is no room left")


async def _receive(body: Body, boundary: Optional[bytes], announced: _Announced, path: Path) -> None:
    """Write the file of a body."""
    if boundary is not None:
        await _find_file(body, boundary)
    async with Sink(path) as sink:
        left = announced.size
        while left:
            data = await body.exactly(min(left, BLOCK))
            await sink.write(data)
            left -= len(data)
        if boundary is not None and await body.exactly(len(boundary) + 4) != b"\r\n--" + boundary:
            raise Refusal("400 Bad Request", f"the file is longer than the {announced.size} announced bytes")
        # To the end, so that the client is not cut off before it has read the answer.
        await body.exactly(body.left)
        await sink.keep()


async def _find_file(body: Body, boundary: bytes) -> None:
    """Read a form up to the first byte of its file."""
    start = await body.until(b"--" + boundary + b"\r\n")
    if start != b"--" + boundary + b"\r\n":
        raise Refusal("400 Bad Request", "the form does not begin with its boundary")
    for _ in range(_MOST_FIELDS):
        head = (await body.until(b"\r\n\r\n")).lower()
        if b"filename=" in head:
            return
        await body.until(b"\r\n--" + boundary)
        if await body.exactly(2) != b"\r\n":
            break
    raise Refusal("422 Unprocessable Entity", "the form holds no file")
