"""NFS shares of secondary storage: mounted on demand, reached by the storage network, known again after a restart."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import socket
import uuid
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple
from urllib.parse import urlsplit

from .commands import run

MOUNTS = Path("/mnt/SecStorage")
STATE = Path("/var/cache/cloud/secstorage.json")
MOUNTINFO = Path("/proc/self/mountinfo")
# What other storage VMs may copy, as the web server offers it.
OFFERED = Path("/var/www/html/copy/template")
# A share is data: nothing on it is run, and nothing on it has rights.
_OPTIONS = "retry=0,nosuid,nodev,noexec"
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_VERSION = re.compile(r"[2-4](\.[0-9])?")
_RESOLVE_SECONDS, _ROUTE_SECONDS, _ALIVE_SECONDS = 10.0, 10.0, 5.0

logger = logging.getLogger(__name__)


def nfs_source(url: str) -> Tuple[str, str, Optional[int]]:
    """Return host, what mount(8) calls the share, and the port if it is not the usual one.

    Raises:
        ValueError: it is no URL of the form ``nfs://host[:port]/path``.
    """
    wrong = ValueError(f"{url!r} is not of the form nfs://host/path")
    if any(not letter.isprintable() for letter in url):
        raise wrong
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise wrong from None
    # A zone of IPv6 (%) means something on another machine.
    plain = not (parts.query or parts.fragment or set("@%") & set(parts.netloc))
    if parts.scheme != "nfs" or not plain or not parts.path.startswith("/"):
        raise wrong
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise wrong from None
        return host, f"[{host}]:{parts.path}", port
    if not _NAME.fullmatch(host):
        raise wrong
    return host, f"{host}:{parts.path}", port


def options_of(version: str, port: Optional[int]) -> str:
    """Return the options of mount(8).

    Raises:
        ValueError: it is no version of NFS.
    """
    options = _OPTIONS
    if version and version != "null":
        if not _VERSION.fullmatch(version):
            raise ValueError(f"nfsVersion={version} is no version of NFS")
        options += f",vers={version}"
    return options if port is None else f"{options},port={port}"


def mount_point(url: str) -> Path:
    """Return the folder of a share: the same URL always has the same one."""
    return MOUNTS / str(uuid.uuid5(uuid.NAMESPACE_URL, url))


def mounted(path: Path = MOUNTINFO) -> Set[str]:
    """Return the folders that something is mounted on; asking the folder itself would hang with its server."""
    return {line.split(" ")[4] for line in path.read_text(encoding="utf-8").splitlines()}


def route_to(values: Dict[str, str], address: str) -> Optional[Tuple[str, str]]:
    """Return gateway and interface of the way to a storage server, or None when it needs no route of its own.

    ``values`` are the words of the command line. The storage network's gateway is preferred to the management
    network's; a server in a network of this VM is reached directly.
    """
    server = ipaddress.ip_address(address)
    if server.version != 4 or server.is_loopback or _device_of(values, address):
        return None
    for key in ("storagegateway", "localgw"):
        gateway = values.get(key, "")
        device = _device_of(values, gateway)
        if device:
            return gateway, device
    return None


def _device_of(values: Dict[str, str], address: str) -> str:
    """Return the interface whose own network an address is in, or nothing."""
    for number in range(16):
        own, mask = values.get(f"eth{number}ip", ""), values.get(f"eth{number}mask", "")
        try:
            if (
                own != "0.0.0.0"
                and ipaddress.IPv4Address(address) in ipaddress.IPv4Interface(f"{own}/{mask}").network
            ):
                return f"eth{number}"
        except ValueError:
            continue
    return ""


class Shares:
    """Keeps shares mounted."""

    def __init__(self, values: Dict[str, str], mount_seconds: float, state: Path = STATE) -> None:
        """Take the words of the command line, how long a mount may take, and where to remember the shares."""
        self._values, self._seconds, self._state = values, mount_seconds, state
        self._locks: Dict[str, asyncio.Lock] = {}
        self.urls: List[str] = []

    async def restore(self) -> None:
        """Mount what was mounted before a restart; a share that is away now is tried again on demand."""
        try:
            found = json.loads(self._state.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            logger.warning("%s: %s", self._state, error)
            return
        for url in found if isinstance(found, list) else []:
            try:
                await self.ensure(str(url))
            except (OSError, ValueError) as error:
                logger.warning("%s: %s", url, error)

    async def ensure(self, url: str) -> Path:
        """Mount a share unless it is, and return its folder.

        Raises:
            ValueError: the URL is none.
            OSError: it cannot be mounted.
        """
        host, source, port = nfs_source(url)
        options, folder = options_of(self._values.get("nfsVersion", ""), port), mount_point(url)
        async with self._locks.setdefault(url, asyncio.Lock()):
            if str(folder) not in mounted():
                folder.mkdir(parents=True, exist_ok=True)
                await self._lead(host)
                await run(
                    "mount", "-t", "nfs", "-o", options, "--", source, str(folder), seconds=self._seconds
                )
            if url not in self.urls:
                self.urls.append(url)
                new = self._state.with_name(self._state.name + ".new")
                new.write_text(json.dumps(self.urls) + "\n", encoding="utf-8")
                new.replace(self._state)
        return folder

    async def offer(self, url: str) -> str:
        """Let other storage VMs copy the templates of a share, and return the path of the web server.

        Raises:
            ValueError: the URL is none.
            OSError: it cannot be mounted.
        """
        folder = await self.ensure(url)
        OFFERED.mkdir(parents=True, exist_ok=True)
        link = OFFERED / folder.name
        new = link.with_name(link.name + ".new")
        if new.is_symlink():
            new.unlink()
        new.symlink_to(folder / "template")
        new.replace(link)
        return f"/copy/template/{folder.name}"

    async def _lead(self, host: str) -> None:
        """See that a server outside of this VM's networks is not looked for on the public one."""
        asking = asyncio.get_event_loop().getaddrinfo(
            host, None, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
        try:
            found = await asyncio.wait_for(asking, _RESOLVE_SECONDS)
        except (OSError, asyncio.TimeoutError):
            return  # an address of IPv6, or a name that mount(8) is going to complain about
        for address in sorted({row[4][0] for row in found}):
            way = route_to(self._values, address)
            if way:
                words = ("route", "replace", f"{address}/32", "via", way[0], "dev", way[1])
                await run("ip", "-4", *words, seconds=_ROUTE_SECONDS)

    async def away(self) -> List[str]:
        """Return the shares that are not mounted, or whose server does not answer."""
        there, found = mounted(), []
        for url in self.urls:
            folder = str(mount_point(url))
            if folder not in there:
                found.append(f"{url} is not mounted")
                continue
            try:
                await run("stat", "--file-system", "--", folder, seconds=_ALIVE_SECONDS)
            except OSError as error:
                found.append(f"{url} does not answer ({error})")
        return found
