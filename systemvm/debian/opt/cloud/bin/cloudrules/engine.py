"""Applies messages: each of them as a whole or not at all.

Messages are merged in memory first, then every part concerned checks the result without changing anything, then every
part applies it and proves that it is in force. When that fails, the parts that were applied go back to the former
state, and the messages are tried in smaller and smaller groups, until the ones that cannot be applied stand alone:
those are left out and named, and the others are in force (docs/adr/0036-a-message-is-the-transaction.md).
"""

from __future__ import annotations

import fcntl
import time
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Iterator, List, Optional, Sequence, Tuple

from . import merge, store, system
from .errors import Failed, Refused
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

# A message that is not in force, and why.
Trouble = Tuple[Message, str]


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


def process(messages: Sequence[Message]) -> List[Trouble]:
    """Merge messages in their order and apply the result.

    Returns:
        The messages that are not in force, in their order, each with the reason; the others are in force.

    Raises:
        Failed: other rules or a live patch keep the lock, or an interrupted patch is in the way; nothing was touched.
    """
    with _locked():
        if not messages:
            return []
        _refuse_half_patched()
        return _settle(list(messages))


def _settle(messages: List[Message]) -> List[Trouble]:
    """Apply messages together, or in halves if that fails."""
    try:
        _transaction(messages)
    except (Refused, Failed) as error:
        if len(messages) == 1:
            return [(messages[0], str(error))]
    else:
        return []
    half = len(messages) // 2
    return _settle(messages[:half]) + _settle(messages[half:])


def _transaction(messages: List[Message]) -> None:
    """Apply messages, all of them or none."""
    old = store.load()
    new = merge.follow(old, system.device_of)
    for message in messages:
        new = merge.merge(new, message, system.device_of)
    state = make(new, tuple(messages))
    parts = [part for part in PARTS if state.everything or part.KINDS & state.kinds]
    for part in parts:
        part.check(state)
    if parts:
        _apply(parts, state, make(old, tuple(messages)) if "cmdline" in old else None)
    try:
        store.save(old, new)
    except OSError as error:
        raise Failed(f"the databags cannot be written: {error}") from error


def reapply() -> None:
    """Apply the databags again as they are: after a boot, or when a redundant router changes its role."""
    with _locked():
        old = store.load()
        bags = merge.follow(old, system.device_of)
        read(bags)
        command_line = {"type": "cmdline", "cmd_line": bags["cmdline"]["config"]}
        _apply(PARTS, make(bags, (command_line,)), None)
        store.save(old, bags)


def _apply(parts: Sequence[ModuleType], state: State, former: Optional[State]) -> None:
    """Let every part apply the state, then every part prove that it has its effect."""
    begun: List[ModuleType] = []
    current = parts[0]
    try:
        for current in parts:
            begun.append(current)
            current.apply(state)
        for current in () if state.booting else parts:
            current.prove(state)
    except (Failed, OSError) as error:
        trouble = _undo(begun, former)
        name = current.__name__.rpartition(".")[2]
        raise Failed(f"{name}: {error}{trouble}") from error


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
