"""Processes of ``sysvm worker``: a host of a cluster, or the scheduler at which its hosts meet."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.errors import InfrastructureError, UsageError
from harness.host import runtime
from harness.machine.disks import scratch
from harness.plugin.cluster import host, peers
from harness.plugin.cluster.address import Meeting
from harness.plugin.cluster.engine import LOCAL_PAGE, SLOT, engine
from harness.plugin.cluster.host import Membership, membership
from harness.plugin.cluster.peers import OwnDepot
from harness.plugin.cluster.sitting import END_DEADLINE

if TYPE_CHECKING:
    from distributed import Worker

# Threads of a host beside those of its seats.
_SPARE_THREADS = 2
_PATIENCE = 30.0


@dataclass(frozen=True)
class Ready:
    """A part of a cluster that is up: its name, and where it listens."""

    name: str
    address: str


def serve_scheduler(meeting: Meeting, ready: Callable[[Ready], None]) -> None:
    """Be the scheduler until a person or a signal ends it.

    Args:
        meeting: where it listens.
        ready: called once it does.

    Raises:
        InfrastructureError: it cannot listen there.
    """
    asyncio.run(_serve_scheduler(meeting, ready))


async def _serve_scheduler(meeting: Meeting, ready: Callable[[Ready], None]) -> None:
    scheduler_class = engine().Scheduler
    made = scheduler_class(
        host=str(meeting).rpartition(":")[0], port=meeting.port, security=meeting.security(),
        dashboard=False, dashboard_address=LOCAL_PAGE,
    )  # fmt: skip
    try:
        async with made as scheduler:
            ready(Ready("scheduler", scheduler.address))
            await _signal()
    except (OSError, RuntimeError) as error:  # the engine wraps the one in the other
        raise InfrastructureError(f"cannot listen at {meeting}: {_reason(error)}") from None


def serve_host(meeting: Meeting, name: str, places: int, ready: Callable[[Ready], None]) -> None:
    """Be a host of a cluster until a person or a signal ends it; its seats end first.

    Args:
        meeting: where the scheduler is.
        name: of this host, unlike all others.
        places: how many scenarios it makes at once.
        ready: called once the scheduler knows it.

    Raises:
        InfrastructureError: the scheduler does not answer, or goes.
        UsageError: it has a host of that name.
    """
    host.program()  # what runs from here on, also when the files are exchanged meanwhile
    with runtime.open_run() as run, scratch(run.id) as folder, membership(folder) as member:
        asyncio.run(_serve_host(meeting, name, places, member, ready))


async def _serve_host(
    meeting: Meeting, name: str, places: int, member: Membership, ready: Callable[[Ready], None]
) -> None:
    meeting.require_answer()
    worker = _worker(meeting, name, places, member.scratch)
    worker.handlers[peers.READ] = OwnDepot(member.scratch / "depot").read
    try:
        await asyncio.wait_for(worker, _PATIENCE)
    except Exception as error:  # the engine has errors of many kinds for one that says no
        await worker.close()
        reason = _reason(error)
        if "name taken" in reason:
            raise UsageError(f"{meeting} has a host called {name!r} already", hint="--name NAME") from None
        raise InfrastructureError(f"cannot join {meeting}: {reason}") from None
    ready(Ready(name, worker.address))
    signalled, gone = asyncio.ensure_future(_signal()), asyncio.ensure_future(worker.finished())
    await asyncio.wait({signalled, gone}, return_when=asyncio.FIRST_COMPLETED)
    member.leaving = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_DEADLINE):
            while member.seats:
                await asyncio.sleep(0.05)
    await worker.close()
    if not signalled.done():
        signalled.cancel()
        raise InfrastructureError(f"the scheduler at {meeting} is gone")


def _worker(meeting: Meeting, name: str, places: int, folder: Path) -> Worker:
    made: Worker = engine().Worker(
        str(meeting), name=name, nthreads=places + _SPARE_THREADS, resources={SLOT: places},
        security=meeting.security(), local_directory=str(folder), memory_limit=0, death_timeout=_PATIENCE,
        dashboard=False, dashboard_address=LOCAL_PAGE,
        # On loopback alone where nothing is encrypted.
        **({} if meeting.certificates else {"host": "127.0.0.1"}),
    )  # fmt: skip
    return made


def _reason(error: BaseException) -> str:
    """Return the first line of why, from the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


async def _signal() -> None:
    """Wait for a signal that ends the process."""
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, seen.set)
    await seen.wait()
