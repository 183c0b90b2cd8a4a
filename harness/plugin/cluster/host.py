"""The host's side: functions that a run lets the engine call there, and the host's state while it takes part."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle import __version__
from bundle.errors import InfrastructureError, SysvmError
from bundle.paths import payload_root
from harness.host import cache, slots
from harness.host.cache import GOLDEN
from harness.plugin.cluster import peers
from harness.plugin.cluster.orders import NewsKind, Order, topic_of
from harness.plugin.cluster.sitting import Sitting, sitting
from harness.vm import golden

if TYPE_CHECKING:
    from distributed import Worker

# What a group of machines takes of a host's memory, before any was measured: a router with its tenants.
_GROUP_MIB = 640


@dataclass
class Membership:
    """This process as a host of a cluster.

    Attributes:
        scratch: folder for what seats make, which goes with the process.
        leaving: whether the host takes no part any more: its seats end.
        seats: those that are taken now, by name.
    """

    scratch: Path
    leaving: bool = False
    seats: dict[str, Sitting] = field(default_factory=dict)


# The engine calls functions, and they have no other way to know where they are.
_MEMBERS: list[Membership] = []


@contextlib.contextmanager
def membership(scratch: Path) -> Iterator[Membership]:
    """Be a host for a while, in which the functions of this module may be called."""
    member = Membership(scratch)
    _MEMBERS.append(member)
    try:
        yield member
    finally:
        _MEMBERS.remove(member)


def places() -> int:
    """Return how many scenarios this host makes at once: one a core, as long as their machines find memory."""
    there = slots.capacity()
    group = slots.Need(_GROUP_MIB, 1).tokens()
    cores = -(-there["vcpu"] // slots.VCPUS_PER_CORE)
    return max(1, min(cores, there["memory"] // group["memory"]))


async def tell_facts() -> dict[str, Any]:
    """Return what a run must know of this host: its program, and what its golden snapshots are of."""
    return {"program": program(), "golden": await asyncio.to_thread(_golden_cells)}


async def tell_digests(paths: Sequence[str]) -> dict[str, str]:
    """Return what :func:`digests` says, while the host goes on answering."""
    return await asyncio.to_thread(digests, paths)


@functools.cache
def program() -> str:
    """Return a digest of this program's code, as it was at the first call: hosts of one run have the same."""
    total = hashlib.sha256(__version__.encode())
    package = Path(__file__).parents[2]
    for root in (package, package.parent / "bundle", payload_root()):
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                total.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return total.hexdigest()[:16]


def _golden_cells() -> list[str]:
    """Return the cells whose golden snapshots may be in the cache; which exactly, the ingredients decide."""
    found = filter(None, map(golden.recorded, cache.entries(GOLDEN)))
    return sorted({f"{row['facts'].get('type')}-from-{row['facts'].get('release')}" for row in found})


def digests(paths: Sequence[str]) -> dict[str, str]:
    """Return a digest of each file, or of all files of a folder; an empty one of what is not there."""
    return {path: _digest(Path(path)) for path in paths}


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    try:
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if ".git" in file.relative_to(path.parent).parts:
                continue
            with file.open("rb") as opened:
                own = hashlib.file_digest(opened, "sha256").hexdigest()
            total.update(f"{file.relative_to(path.parent)}\0{own}\n".encode())
    except OSError:
        return ""
    return total.hexdigest() if files else ""


def sit(order: Order) -> bytes:
    """Take a seat until it is dismissed or nobody wants it; returns its last logs. It is a task of the engine.

    Raises:
        InfrastructureError: this host is leaving, or the seat cannot be taken.
    """
    from distributed import get_worker

    worker, member = get_worker(), _member()
    task = worker.get_current_task()
    topic = topic_of(order.run)

    def tell(kind: NewsKind, content: Any) -> None:
        worker.log_event(topic, {"seat": order.seat, "kind": kind, "content": content})

    def is_wanted() -> bool:
        state = worker.state.tasks.get(task)
        return not member.leaving and state is not None and state.state in ("executing", "long-running")

    with sitting(order, member.scratch, tell) as seat:
        member.seats[order.seat] = seat
        tell("taken", None)
        try:
            seat.give(order.first, last=False)
            if order.golden and order.holders:
                tell("said", _obtain(worker, order))
            logs, words = seat.play(is_wanted)
        finally:
            del member.seats[order.seat]
    tell("ended", words)  # nothing of it is left
    return logs


def _obtain(worker: Worker, order: Order) -> str:
    """Fetch the golden snapshot that a cell needs from another host; returns what became of it, in one line."""
    for holder in order.holders:
        try:
            return peers.fetch(worker, holder, order.golden)
        except (SysvmError, OSError) as error:
            reason = error.diagnostics() if isinstance(error, SysvmError) else str(error)
    return f"golden snapshot {order.golden[:12]} is not fetched: {reason}"


def give(seat: str, identifiers: Sequence[str], last: bool) -> bool:
    """Hand work on to a seat; says whether it is there."""
    there = _member().seats.get(seat)
    if there is not None:
        there.give(identifiers, last=last)
    return there is not None


async def take_logs(seat: str, folder: str) -> bytes:
    """Return the logs of a scenario as an archive, and remove them here."""
    sitting_there = _member().seats.get(seat)
    return await asyncio.to_thread(sitting_there.take_logs, folder) if sitting_there is not None else b""


def _member() -> Membership:
    if not _MEMBERS:
        raise InfrastructureError("this process is no host of a cluster")
    return _MEMBERS[-1]
