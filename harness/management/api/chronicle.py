"""Events and alerts as clients list them, kept in memory and told to the journal."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from harness.management.api.accounts import Account
from harness.record.events import Emitter

EventLevel: TypeAlias = Literal["INFO", "WARN", "ERROR"]
EventState: TypeAlias = Literal["Scheduled", "Started", "Completed"]
# CloudStack's number of an alert about a call that names no VM.
ROUTER_ALERT = 9


@dataclass(frozen=True)
class EventRow:
    """One event of a call; ``start`` is the id of its first event."""

    id: str
    type: str
    state: EventState
    level: EventLevel
    description: str
    account: str
    created: float
    start: str
    resource_type: str = ""
    resource: str = ""


@dataclass(frozen=True)
class AlertRow:
    """Something that an administrator has to look at."""

    id: str
    number: int
    name: str
    description: str
    sent: float


class Chronicle:
    """The events and alerts of a server, the newest ones."""

    def __init__(self, most: int, journal: Emitter) -> None:
        """Remember up to ``most`` events and alerts each, and tell the journal every one."""
        self._events: deque[EventRow] = deque(maxlen=most)
        self._alerts: deque[AlertRow] = deque(maxlen=most)
        self._journal = journal
        self._lock = threading.Lock()

    def event(
        self, kind: str, state: EventState, description: str, account: Account, *, level: EventLevel = "INFO",
        start: str = "", resource_type: str = "", resource: str = "",
    ) -> str:  # fmt: skip
        """Record an event and return its id."""
        own = str(uuid.uuid4())
        self._keep(
            EventRow(
                own, kind, state, level, description, account.name, time.time(), start or own, resource_type, resource
            )
        )  # fmt: skip
        return own

    def alert(self, number: int, name: str, description: str) -> None:
        """Record an alert."""
        self._keep(AlertRow(str(uuid.uuid4()), number, name, description, time.time()))

    def _keep(self, row: EventRow | AlertRow) -> None:
        if isinstance(row, EventRow):
            self._journal.emit("api_event", row=asdict(row))
        else:
            self._journal.emit("api_alert", row=asdict(row))
        self.remember(row)

    def remember(self, row: EventRow | AlertRow) -> None:
        """Take a row that the journal has already."""
        with self._lock:
            if isinstance(row, EventRow):
                self._events.append(row)
            else:
                self._alerts.append(row)

    def events(self) -> list[EventRow]:
        """Return the events, the newest first."""
        with self._lock:
            return list(reversed(self._events))

    def alerts(self) -> list[AlertRow]:
        """Return the alerts, the newest first."""
        with self._lock:
            return list(reversed(self._alerts))
