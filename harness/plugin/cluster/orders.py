"""Messages between a run and its seats: orders on the way there, news on the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

# Kinds of news: a host has taken the seat; lines of a seat's event log; a line for a person; a scenario's end, with
# pytest's reports of it and the error that was no check's finding; a seat's end, with its last words if it was bad.
NewsKind: TypeAlias = Literal["taken", "events", "said", "done", "ended"]


@dataclass(frozen=True)
class Order:
    """An order to a host to take a seat.

    Attributes:
        run: the run's name.
        seat: the seat's, of which there is no other.
        folder: where the scenarios are; nothing stands for those that belong to the program.
        first: ids of the tests that it makes first.
        arguments: options of pytest and of the plugin, for the seat's cell alone.
        seed: what random moments are drawn from.
        golden: key of the golden snapshot that the cell is known to need, or nothing.
        holders: addresses of the hosts that have it.
    """

    run: str
    seat: str
    folder: str
    first: tuple[str, ...]
    arguments: tuple[str, ...]
    seed: int
    golden: str = ""
    holders: tuple[str, ...] = ()


@dataclass(frozen=True)
class News:
    """A message of a seat; ``content`` is that of its kind."""

    seat: str
    kind: NewsKind
    content: Any


def topic_of(run: str) -> str:
    """Return the engine's topic under which the seats of a run tell their news."""
    return f"sysvm-{run}"
