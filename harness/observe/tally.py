"""Notes of what the reviewed lists excuse: every difference that a row lets pass, for a row must be needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

# What rows let pass, by row: the list's name and what identifies the row in it.
Excused: TypeAlias = dict[str, set[str]]

_OPEN: ContextVar[Excused | None] = ContextVar("excused", default=None)


@contextmanager
def opened() -> Iterator[Excused]:
    """Yield what rows let pass while the block runs, in this thread."""
    found: Excused = {}
    token = _OPEN.set(found)
    try:
        yield found
    finally:
        _OPEN.reset(token)


def note(row: str, what: str) -> None:
    """Note that a row let something pass, if anybody wants to know.

    Args:
        row: its list and what identifies it there.
        what: differed, such as a path or a line; the same thing counts once.
    """
    found = _OPEN.get()
    if found is not None:
        found.setdefault(row, set()).add(what)
