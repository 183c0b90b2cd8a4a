"""The one record of a run: ``events.jsonl``, one JSON object a line; every report is a view of it.

Each line has ``t`` (seconds since the run began, monotonic), ``at`` (UTC, ISO 8601), ``kind`` and the fields
of that kind (``docs/judging.md`` lists them). A line is on the disk before :meth:`EventLog.emit` returns: a
run that dies leaves everything it knew. Several processes may write to one log: lines are appended whole, and
the first line carries the monotonic clock's value at the start, one clock for all processes of a machine.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

from bundle.errors import UsageError

RUN_STARTED = "run_started"

# Values of events: whatever JSON can say once dataclasses, enums, paths, tuples and sets are made plain.
Json: TypeAlias = Any


class Emitter(Protocol):
    """A taker of events: an :class:`EventLog`, or :class:`Nowhere` when nobody listens."""

    def emit(self, kind: str, **fields: Json) -> Event:
        """Record one event."""
        ...


@dataclass(frozen=True)
class Event:
    """One line of the log."""

    t: float
    at: str
    kind: str
    fields: dict[str, Json] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Json:
        """Return a field; a missing one is a KeyError that names the kind."""
        try:
            return self.fields[name]
        except KeyError:
            raise KeyError(f"event {self.kind!r} has no field {name!r}") from None

    def get(self, name: str, default: Json = None) -> Json:
        """Return a field or the default."""
        return self.fields.get(name, default)


class EventLog:
    """Appends events to a file; threads share it, processes of one run each open the same path."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start a log at ``path``, or join the one that another process of this run has started there.

        Raises:
            UsageError: ``path`` holds something else than an event log.
        """
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._about: dict[str, Json] = {}
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        earlier = path.stat().st_size > 0
        self._zero = _start_of(path) if earlier else clock()
        if not earlier:
            self.emit(RUN_STARTED, monotonic=self._zero)
        elif not path.read_bytes().endswith(b"\n"):
            # A writer died in the middle of its line: keep ours apart from it.
            os.write(self._file, b"\n")

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._zero

    @property
    def monotonic_zero(self) -> float:
        """The reading of the monotonic clock when the run began."""
        return self._zero

    def emit(self, kind: str, **fields: Json) -> Event:
        """Write one event and return it; it is on the disk when this returns.

        Args:
            kind: what happened, such as ``check`` or ``step_finished``.
            **fields: JSON values, dataclasses, enums, paths, tuples and sets.
        """
        if clash := {"t", "at", "kind"} & set(fields):
            raise ValueError(f"event {kind!r} may not set {', '.join(sorted(clash))}")
        plain = json.loads(json.dumps({**self._about, **fields}, default=_plain))
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock:
            event = Event(round(self.elapsed, 6), at, kind, plain)
            self._write(event)
        return event

    def copy(self, event: Event) -> None:
        """Write an event of another log, on this one's clock; it is on the disk when this returns."""
        with self._lock:
            self._write(event)

    def _write(self, event: Event) -> None:
        line = json.dumps(
            {"t": event.t, "at": event.at, "kind": event.kind, **event.fields}, ensure_ascii=True
        )
        os.write(self._file, line.encode() + b"\n")
        os.fsync(self._file)

    @contextmanager
    def about(self, **fields: Json) -> Iterator[None]:
        """Give every event of a while the fields that say what it belongs to, such as scenario and cell."""
        before, self._about = self._about, {**self._about, **fields}
        try:
            yield
        finally:
            self._about = before

    @contextmanager
    def step(self, name: str, **fields: Json) -> Iterator[None]:
        """Record the begin and the end of a step, also when it raises."""
        start = self.emit("step_started", name=name, **fields)
        try:
            yield
        except BaseException as error:
            seconds = round(self.elapsed - start.t, 6)
            reason = str(error) or type(error).__name__
            self.emit("step_finished", name=name, seconds=seconds, verdict="failed", reason=reason, **fields)
            raise
        self.emit(
            "step_finished", name=name, seconds=round(self.elapsed - start.t, 6), verdict="passed", **fields
        )

    def close(self) -> None:
        """Close the file; a closed log takes no more events."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Nowhere:
    """Takes events and keeps none, for library use without a run."""

    def emit(self, kind: str, **fields: Json) -> Event:
        """Return the event without recording it."""
        return Event(0.0, "", kind, fields)


def read(path: Path) -> list[Event]:
    """Return the events of a log in the order of their lines.

    A line that a dying writer left unfinished is skipped: what came before it is still the truth.

    Raises:
        UsageError: there is no such log, or a finished line is not an event.
    """
    return read_with_gaps(path)[0]


def read_with_gaps(path: Path) -> tuple[list[Event], list[int]]:
    """Return the events of a log, and the numbers of the lines that were skipped.

    Raises:
        UsageError: there is no such log, or a finished line is not an event.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise UsageError(f"cannot read the event log {path}: {error.strerror}") from None
    _start_of(path)
    found, skipped = [], []
    for number, line in enumerate(lines, 1):
        event = parse_line(line, f"{path}:{number}") if line else None
        if event is not None:
            found.append(event)
        elif line:
            skipped.append(number)
    return found, skipped


def parse_line(line: str, where: str) -> Event | None:
    """Return the event of a line of a log, or None for a line that is not finished.

    Args:
        line: without its end.
        where: it stands, for the error.

    Raises:
        UsageError: it is finished, and no event.
    """
    try:
        fields = json.loads(line)
    except RecursionError:
        raise UsageError(f"{where}: not an event: {line[:80]!r}") from None
    except ValueError:
        return None
    try:
        event = Event(fields.pop("t"), fields.pop("at"), fields.pop("kind"), fields)
        fits = math.isfinite(event.t) and datetime.fromisoformat(event.at) and isinstance(event.kind, str)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise UsageError(f"{where}: not an event: {line[:80]!r}")
    return event


def _start_of(path: Path) -> float:
    with path.open(encoding="utf-8", errors="replace") as file:
        first = parse_line(file.readline(), f"{path}:1")
    if first is not None and first.kind == RUN_STARTED:
        started = first.get("monotonic")
        if isinstance(started, (int, float)) and math.isfinite(started):
            return float(started)
    raise UsageError(f"{path} is not an event log: its first line is no {RUN_STARTED!r} event")


def _plain(value: object) -> Json:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    raise TypeError(f"cannot record a {type(value).__name__} in an event: {value!r}")
