"""Secondary storage: NFS shares mounted on demand, and uploads taken from the web server in front."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import uuid
from pathlib import Path
from typing import Dict, List, Tuple
from urllib.parse import urlsplit

from .connection import Handler
from .protocol import Frame

MOUNTS = Path("/mnt/SecStorage")
STATE = Path("/var/cache/cloud/secstorage.json")
UPLOAD_ADDRESS, UPLOAD_PORT = "127.0.0.1", 8210
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_BLOCK = 1 << 18

logger = logging.getLogger(__name__)


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        reason = output.decode("utf-8", "replace").strip()
        raise OSError(f"{' '.join(command)} ended with status {process.returncode}: {reason}")


def nfs_source(url: str) -> str:
    """Return what mount(8) calls a share.

    Raises:
        ValueError: it is no URL of the form ``nfs://host/path``.
    """
    parts = urlsplit(url)
    if parts.scheme != "nfs" or not parts.hostname or not parts.path.startswith("/"):
        raise ValueError(f"{url!r} is not of the form nfs://host/path")
    return f"{parts.hostname}:{parts.path}"


def mount_point(url: str) -> Path:
    """Return the folder of a share: the same URL always has the same one."""
    return MOUNTS / str(uuid.uuid5(uuid.NAMESPACE_URL, url))


class SecondaryStorage:
    """Keeps shares mounted and takes uploads that the management server announced."""

    def __init__(self, nfs_version: str = "", state: Path = STATE) -> None:
        # Without retries of mount(8) itself, which take two minutes: management asks again.
        self._options = f"retry=0,vers={nfs_version}" if nfs_version else "retry=0"
        self._state = state
        self._shares: List[str] = []
        self._expected: Dict[str, Tuple[Path, int]] = {}

    def handlers(self) -> Dict[str, Handler]:
        """Return what the management server may ask."""
        return {"check_health": self._health, "mount": self._mount, "expect_upload": self._expect}

    async def restore(self) -> None:
        """Mount what was mounted before a restart; a share that is away now is tried again on demand."""
        try:
            shares = json.loads(self._state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        for url in shares:
            try:
                await self._ensure(str(url))
            except (OSError, ValueError) as error:
                logger.warning("%s: %s", url, error)

    async def _health(self, _frame: Frame) -> Frame:
        away = [url for url in self._shares if not os.path.ismount(str(mount_point(url)))]
        if away:
            return {"result": False, "details": "not mounted: " + ", ".join(away)}
        return {"result": True, "details": "ok", "shares": self._shares}

    async def _mount(self, frame: Frame) -> Frame:
        return {"result": True, "path": str(await self._ensure(str(frame["url"])))}

    async def _ensure(self, url: str) -> Path:
        source, folder = nfs_source(url), mount_point(url)
        folder.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(str(folder)):
            await _run("mount", "-t", "nfs", "-o", self._options, source, str(folder))
        if url not in self._shares:
            self._shares.append(url)
            new = self._state.with_name(self._state.name + ".new")
            new.write_text(json.dumps(self._shares) + "\n", encoding="utf-8")
            new.replace(self._state)
        return folder

    async def _expect(self, frame: Frame) -> Frame:
        """Let one upload in: only what was announced is taken, and no more bytes than announced."""
        identifier, size = str(frame["upload"]), int(frame["size"])
        if not _IDENTIFIER.fullmatch(identifier):
            raise ValueError(f"{identifier!r} is no identifier of an upload")
        folder = await self._ensure(str(frame["url"])) if "url" in frame else MOUNTS
        self._expected[identifier] = (folder / "upload" / identifier, size)
        return {"result": True}

    async def start(self, port: int = UPLOAD_PORT, address: str = UPLOAD_ADDRESS) -> asyncio.AbstractServer:
        """Listen for the web server."""
        return await asyncio.start_server(self._accept, address, port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            status = await self._upload(reader)
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            logger.warning("upload failed: %s", error)
            status = "500 Internal Server Error"
        try:
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode("latin-1")
            )
            await writer.drain()
        except OSError:
            logger.info("the uploader is gone")
        finally:
            writer.close()

    async def _upload(self, reader: asyncio.StreamReader) -> str:
        """Take one upload into a file that appears when it is complete; return the HTTP status."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        words = lines[0].split()
        headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}
        if len(words) != 3 or words[0] not in ("POST", "PUT"):
            return "405 Method Not Allowed"
        identifier = words[1].rpartition("/")[2]
        if identifier not in self._expected:
            return "403 Forbidden"
        path, size = self._expected[identifier]
        if headers.get("content-length") != str(size):
            return "411 Length Required"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            left = size
            while left:
                block = await reader.readexactly(min(left, _BLOCK))
                file.write(block)
                left -= len(block)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        del self._expected[identifier]
        return "201 Created"
