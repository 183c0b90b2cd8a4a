"""Secondary storage: NFS shares mounted on demand, uploads and copies into them, and the web server in front."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Dict, List

from .commands import run
from .config import Config
from .connection import Handler
from .copies import Copies
from .protocol import Frame, text_of
from .shares import Shares
from .uploads import Uploads

_SETUP_SECONDS = 60.0
_MOST_ADDRESSES = 1024


class SecondaryStorage:
    """Does what the management server asks of a storage VM."""

    def __init__(self, settings: Config) -> None:
        """Take what the agent was told."""
        self._root = settings.folder.parent
        limits = settings.limits
        self._shares = Shares(settings.values, limits.mount)
        self._uploads = Uploads(self._shares, limits)
        self._copies = Copies(
            self._shares, limits.block, settings.authority, self._root / "certs" / "root-ca.crt"
        )

    def handlers(self) -> Dict[str, Handler]:
        """Return what the management server may ask."""
        return {
            "check_health": self._health,
            "mount": self._mount,
            "expect_upload": self._uploads.expect,
            "copy": self._copies.copy,
            "offer": self._offer,
            "setup": self._setup,
            "firewall": self._firewall,
        }

    async def start(self) -> asyncio.AbstractServer:
        """Listen for uploads."""
        return await self._uploads.start()

    async def restore(self) -> None:
        """Mount what was mounted before a restart."""
        await self._shares.restore()

    async def _health(self, _frame: Frame) -> Frame:
        away = await self._shares.away()
        details = "not well: " + ", ".join(away) if away else "ok"
        return {
            "result": not away,
            "details": details,
            "shares": self._shares.urls,
            "uploads": self._uploads.running,
            "copies": self._copies.running,
        }

    async def _mount(self, frame: Frame) -> Frame:
        return {"result": True, "path": str(await self._shares.ensure(text_of(frame, "url")))}

    async def _offer(self, frame: Frame) -> Frame:
        return {"result": True, "path": await self._shares.offer(text_of(frame, "url"))}

    async def _setup(self, frame: Frame) -> Frame:
        """Give the web server its certificate, and copies their user."""
        user, password = text_of(frame, "user", ""), text_of(frame, "password", "")
        words = ["-i", text_of(frame, "address"), "-h", text_of(frame, "name")]
        with tempfile.TemporaryDirectory(prefix="setup-") as folder:
            for letter, key in (("-k", "key"), ("-p", "certificate"), ("-t", "chain"), ("-u", "root")):
                if key in frame:
                    path = Path(folder) / key
                    path.touch(mode=0o600)
                    path.write_text(str(frame[key]), encoding="utf-8")
                    words += [letter, str(path)]
            await run(str(self._root / "config_ssl.sh"), *words, seconds=_SETUP_SECONDS)
        if user:
            await run(str(self._root / "config_auth.sh"), user, password, seconds=_SETUP_SECONDS)
        return {"result": True}

    async def _firewall(self, frame: Frame) -> Frame:
        """Say which addresses may copy."""
        append, addresses = frame.get("append", False), frame.get("addresses")
        if (
            not isinstance(append, bool)
            or not isinstance(addresses, list)
            or len(addresses) > _MOST_ADDRESSES
        ):
            raise ValueError("append is no truth value, or addresses no list of addresses")
        words: List[str] = [str(address) for address in addresses]
        program = str(self._root / "ipfirewall.sh")
        await run(program, "true" if append else "false", *words, seconds=_SETUP_SECONDS)
        return {"result": True}
