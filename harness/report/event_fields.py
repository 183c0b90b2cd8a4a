"""Fields of events, read with care: a log may be damaged, and a guest's text may be endless."""

from __future__ import annotations

import math
from typing import get_args

from harness.record.events import Event, Json
from harness.report.rows import Verdict

# What one text of a report may hold; the event log has all of it.
MAX_TEXT = 4000
MAX_LINES = 200
MAX_LINE = 1000


def text(value: Json, limit: int = MAX_TEXT) -> str:
    """Return a value as text, cut off where it is endless; the cut is said."""
    whole = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if len(whole) <= limit:
        return whole
    return f"{whole[:limit]} … ({len(whole) - limit} more characters are in events.jsonl)"


def lines(value: Json) -> tuple[str, ...]:
    """Return a list of texts, cut off where it is endless; the cut is said.

    Raises:
        TypeError: it is no list.
    """
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} in place of a list")
    shown = tuple(text(line, MAX_LINE) for line in value[:MAX_LINES])
    more = len(value) - len(shown)
    return (*shown, f"… {more} more lines are in events.jsonl") if more else shown


def number(event: Event, name: str, default: float | None = None) -> float:
    """Return a field that is a finite number.

    Raises:
        KeyError: there is none, and no default.
        TypeError: it is no number.
        ValueError: it is not finite.
    """
    value = event[name] if default is None else event.get(name, default)
    return finite(value)


def finite(value: Json) -> float:
    """Return a value that is a finite number.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{type(value).__name__} in place of a number")
    if not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    return float(value)


def verdict(event: Event) -> Verdict:
    """Return the field ``verdict``.

    Raises:
        KeyError: there is none.
        ValueError: the word is none.
    """
    found = event["verdict"]
    for word in get_args(Verdict):
        if found == word:
            known: Verdict = word
            return known
    raise ValueError(f"unknown verdict {str(found)[:40]!r}")
