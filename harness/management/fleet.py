"""Many VMs at once: a time limit for each, a threshold of failures for all, and totals that add up."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from bundle.errors import SysvmError
from harness.guest.protocols import Guest
from harness.management.server import Patched

FleetOutcome: TypeAlias = Literal["patched", "unchanged", "failed", "timed out", "not started"]
WORDS: tuple[FleetOutcome, ...] = ("patched", "unchanged", "failed", "timed out", "not started")
_FAILURES = {"failed", "timed out"}


@dataclass(frozen=True)
class Target:
    """A VM to patch."""

    name: str
    guest: Guest


@dataclass(frozen=True)
class FleetRow:
    """The end of one VM's patch."""

    name: str
    word: FleetOutcome
    details: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Summary:
    """The ends of all VMs, in the order in which they were given."""

    rows: tuple[FleetRow, ...]

    @property
    def totals(self) -> dict[FleetOutcome, int]:
        """The number of VMs that ended with each word; the numbers add up to that of the VMs."""
        counts = Counter(row.word for row in self.rows)
        return {word: counts[word] for word in WORDS}

    @property
    def ok(self) -> bool:
        """True if every VM is patched or was current."""
        return all(row.word in {"patched", "unchanged"} for row in self.rows)


class FleetListener(Protocol):
    """Is told what happens."""

    def started(self, name: str) -> None:
        """A VM's turn has come."""
        ...

    def ended(self, row: FleetRow, done: int, total: int) -> None:
        """A VM is done; ``done`` of ``total`` are."""
        ...


@dataclass
class _Run:
    """The VM that is being patched, and until when it may be."""

    target: Target
    began: float
    index: int

    def timed_out(self, limit: float) -> FleetRow:
        """Return what is said of it when it has not ended within ``limit`` seconds."""
        seconds = time.monotonic() - self.began
        return FleetRow(self.target.name, "timed out", f"no end within {limit:g} s", seconds)


def patch_many(
    targets: Sequence[Target],
    work: Callable[[Target], Patched],
    progress: FleetListener,
    *,
    parallel: int = 1,
    max_failures: int | None = None,
    time_limit: float = 900.0,
) -> Summary:
    """Patch VMs, ``parallel`` of them at a time.

    Args:
        targets: the VMs, in the order in which they start.
        work: patches one; what it raises counts as a failure of that VM.
        progress: is told about starts and ends, from the calling thread.
        parallel: how many at once.
        max_failures: once so many have failed, no other is started; None means that all are tried.
        time_limit: seconds for one VM. One that takes longer counts as timed out; its patch may still be under way,
            for a guest finishes or undoes alone.
    """
    ends: queue.Queue[tuple[int, FleetRow]] = queue.Queue()
    rows: dict[int, FleetRow] = {}
    running: dict[int, _Run] = {}
    waiting = list(enumerate(targets))

    def finish(index: int, row: FleetRow) -> None:
        if running.pop(index, None) is not None:  # else it had timed out, and that stands
            rows[index] = row
            progress.ended(row, len(rows), len(targets))

    while waiting or running:
        failures = sum(row.word in _FAILURES for row in rows.values())
        if max_failures is not None and failures >= max_failures:
            waiting.clear()
        while waiting and len(running) < parallel:
            index, target = waiting.pop(0)
            running[index] = _Run(target, time.monotonic(), index)
            progress.started(target.name)
            name, arguments = f"patch {target.name}", (index, target, work, ends)
            threading.Thread(target=_work, args=arguments, name=name, daemon=True).start()
        if running:
            next_limit = min(run.began for run in running.values()) + time_limit
            try:
                finish(*ends.get(timeout=max(next_limit - time.monotonic(), 0.0)))
            except queue.Empty:
                late = min(running.values(), key=lambda run: run.began)
                finish(late.index, late.timed_out(time_limit))
    reason = f"{max_failures} VMs had failed" if max_failures is not None else ""
    idle = (FleetRow(target.name, "not started", reason) for target in targets)
    return Summary(tuple(rows.get(index, row) for index, row in enumerate(idle)))


def _work(
    index: int, target: Target, work: Callable[[Target], Patched], ends: queue.Queue[tuple[int, FleetRow]]
) -> None:
    began = time.monotonic()
    word: FleetOutcome = "failed"
    try:
        patched = work(target)
        word, details = "patched" if patched.changed else "unchanged", patched.details
    except SysvmError as error:
        details = error.diagnostics().removeprefix(f"{target.name}: ")
    except Exception as error:  # a defect in one VM's turn must not lose the others'
        details = f"{type(error).__name__}: {error}"
    ends.put((index, FleetRow(target.name, word, details, time.monotonic() - began)))
