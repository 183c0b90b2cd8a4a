"""Applies messages: all of them or none.

Messages are merged in memory first, then every part concerned checks the result without changing anything, then every
part applies it. When a part fails, the parts that were applied go back to the former state, and the databags stay as
they were.
"""

from __future__ import annotations

import fcntl
import time
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Iterator, List, Optional, Sequence

from . import merge, store, system
from .errors import Failed
from .messages import Message
from .parts import PARTS
from .state import State, make
from .topology import read

LOCK = Path("/run/cloud/rules.lock")
# A live patch holds the lock from its plan to its end. Management waits 600 s for a set of rules.
LOCK_LIMIT = 560.0
# The journal of a live patch: once the lock is free, it belongs to one that died half way.
JOURNAL = Path("/var/lib/cloud-livepatch/attempt/phase")
RECOVER = "/var/lib/cloud-livepatch/patch-sysvms.sh --recover"


@contextmanager
def _locked(limit: float = LOCK_LIMIT) -> Iterator[None]:
    """Let one program at a time change the rules; a live patch is one, too.

    Raises:
        Failed: another program kept the lock for ``limit`` seconds.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + limit
    with LOCK.open("w") as lock:
        while not _try(lock.fileno()):
            if time.monotonic() >= deadline:
                raise Failed(
                    f"{LOCK} was held for {limit:.0f} s by a live patch or other rules; try again later"
                )
            time.sleep(0.05)
        yield


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refuse_half_patched() -> None:
    """Refuse what the end of an interrupted patch would write over.

    Raises:
        Failed: a live patch has begun to change this VM and was neither finished nor undone.
    """
    if JOURNAL.exists():
        raise Failed(f"an interrupted live patch has to be finished or undone first: run {RECOVER}")


def process(messages: Sequence[Message]) -> None:
    """Merge messages and apply the result.

    Raises:
        Refused: a message cannot be applied here; nothing was changed.
        Failed: applying it failed; what had been changed was put back.
    """
    with _locked():
        _refuse_half_patched()
        old = store.load()
        new = old
        for message in messages:
            new = merge.merge(new, message, system.device_of)
        state = make(new, tuple(messages))
        parts = [part for part in PARTS if state.everything or part.KINDS & state.kinds]
        for part in parts:
            part.check(state)
        _apply(parts, state, make(old, tuple(messages)) if "cmdline" in old else None)
        store.save(old, new)


def reapply() -> None:
    """Apply the databags again as they are: after a boot, or when a redundant router changes its role."""
    with _locked():
        bags = store.load()
        read(bags)
        command_line = {"type": "cmdline", "cmd_line": bags["cmdline"]["config"]}
        _apply(PARTS, make(bags, (command_line,)), None)


def _apply(parts: Sequence[ModuleType], state: State, former: Optional[State]) -> None:
    begun: List[ModuleType] = []
    try:
        for part in parts:
            begun.append(part)
            part.apply(state)
    except (Failed, OSError) as error:
        trouble = _undo(begun, former)
        part = begun[-1].__name__.rpartition(".")[2]
        raise Failed(f"{part}: {error}{trouble}") from error


def _undo(begun: Sequence[ModuleType], former: Optional[State]) -> str:
    """Bring parts back; return what went wrong with that, as the end of a sentence."""
    if former is None:
        return ""
    troubles = []
    for part in reversed(begun):
        try:
            part.apply(former)
        except (Failed, OSError) as error:
            troubles.append(str(error))
    return "; going back failed, too: {}".format("; ".join(troubles)) if troubles else ""
