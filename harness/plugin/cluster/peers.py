"""Golden snapshots between hosts: each host is a depot of what it has, read over the engine's own connections.

Who has a snapshot packs it once into a depot of its own, when somebody asks; who needs it pulls it from there by the
code of ``sysvm cache pull``: every piece is compared before it is used, and what does not fit the host is not fetched.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.errors import CheckFailed, InfrastructureError, SysvmError, UsageError
from harness.host.cache import GOLDEN
from harness.host.hypervisor import hypervisor
from harness.lab.here import Here
from harness.vm.depot import manifest
from harness.vm.depot.places import Depot, FolderPlace, NotThere
from harness.vm.depot.pull import Receiver, misfit
from harness.vm.depot.push import Sender

if TYPE_CHECKING:
    from distributed import Worker

# The engine's name for what is asked of a host.
READ = "sysvm_read"
_PATIENCE = 120.0


@dataclass(frozen=True)
class PeerPlace:
    """The depot of another host.

    Attributes:
        worker: this host.
        address: the other one's.
        key: of the golden snapshot that is read.
    """

    worker: Worker
    address: str
    key: str

    def read(self, name: str, most: int) -> bytes:
        """Return a file's content, at most so many bytes."""
        from distributed.utils import sync

        async def ask() -> dict[str, Any]:
            ask_peer = getattr(self.worker.rpc(self.address), READ)
            answer: dict[str, Any] = await asyncio.wait_for(ask_peer(name=name, key=self.key), _PATIENCE)
            return answer

        try:
            answer: dict[str, Any] = sync(self.worker.loop, ask)
        except (OSError, TimeoutError) as error:
            raise InfrastructureError(f"{self.address} does not answer ({type(error).__name__})") from None
        if answer.get("problem"):
            raise InfrastructureError(f"{self.address}: {answer['problem']}")
        if answer["data"] is None:
            raise NotThere(name)
        data: bytes = answer["data"]
        return data[:most]

    def write(self, name: str, data: bytes) -> None:
        """Refuse: a host's depot is its own."""
        raise UsageError(f"nothing can be sent to {self.address} ({name}, {len(data)} bytes)")

    def names(self, folder: str) -> None:
        """Say that no folder can be listed."""


def fetch(worker: Worker, address: str, key: str) -> str:
    """Fetch a golden snapshot, with its image, from another host; returns what became of it, in one line.

    Args:
        worker: this host.
        address: the other one's.
        key: of the snapshot.

    Raises:
        InfrastructureError: the other host does not answer, or the disk is full.
        CheckFailed: what it has is damaged.
    """
    depot = Depot(address, PeerPlace(worker, address, key))
    with hypervisor() as host:
        receiver = Receiver(depot, (host.uid, host.gid))
        entry = depot.entry(GOLDEN, key)
        if reasons := misfit(receiver, entry, Here(host).parts):
            return f"golden snapshot {key[:12]} of {address} is of no use here: {'; '.join(reasons)}"
        there = not receiver.golden(entry)
    what = "is there already" if there else f"is fetched from {address}, {receiver.fetched >> 20} MiB"
    return f"golden snapshot {key[:12]} {what}"


class OwnDepot:
    """The depot of this host, for others to read, in a folder that goes with its process."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is filled when somebody asks."""
        self._place = FolderPlace(folder)
        self._depot = Depot(str(folder), self._place)
        self._lock = threading.Lock()
        self._packed: set[str] = set()

    async def read(self, name: str, key: str) -> dict[str, Any]:
        """Answer another host: ``data`` (None for what is not there), or ``problem``."""
        try:
            return {"data": await asyncio.to_thread(functools.partial(self._read, name, key))}
        except SysvmError as error:
            return {"problem": error.diagnostics()}

    def _read(self, name: str, key: str) -> bytes | None:
        if not manifest.is_key(key) or ".." in name or name.startswith("/"):
            raise CheckFailed(f"no name of a depot: {name!r}")
        with self._lock:  # whoever comes while it is packed waits for the whole
            if key not in self._packed:
                Sender(self._depot).golden(key)
                self._packed.add(key)
        try:
            return self._place.read(name, manifest.LONGEST)
        except NotThere:
            return None
