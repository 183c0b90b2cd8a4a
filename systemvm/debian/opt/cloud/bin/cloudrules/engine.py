"""Applies messages: all of them or none.

Messages are merged in memory first, then every part concerned checks the result without changing anything, then every
part applies it. When a part fails, the parts that were applied go back to the former state, and the databags stay as
they were.
"""

from __future__ import annotations

import fcntl
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


@contextmanager
def _locked() -> Iterator[None]:
    """Let one program at a time change the rules."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def process(messages: Sequence[Message]) -> None:
    """Merge messages and apply the result.

    Raises:
        Refused: a message cannot be applied here; nothing was changed.
        Failed: applying it failed; what had been changed was put back.
    """
    with _locked():
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
