"""The journal of a server: what it did outlives it, and what it was doing when it ended is known at the next start."""

from __future__ import annotations

from pathlib import Path

from harness.management.api.chronicle import ROUTER_ALERT, AlertRow, EventRow
from harness.management.api.jobs import IN_PROGRESS, RESTARTED, Job
from harness.management.api.state import ServerState
from harness.record.events import EventLog, read

# Rows of each kind that are taken over from an earlier server.
_MOST = 500


def open_journal(path: Path) -> tuple[EventLog, list[Job | EventRow | AlertRow]]:
    """Start a new journal in the place of an earlier server's, and return what that one knew.

    Args:
        path: of the journal; need not be there.

    Returns:
        The new journal, and the earlier rows, the oldest first. A job that was in progress is a failed one now. All are
        in the new journal before it takes the old one's name, so a server that is killed meanwhile has lost nothing.
    """
    rows = _earlier(path) if path.exists() else []
    beside = path.with_name(f"{path.name}-new")
    beside.unlink(missing_ok=True)
    journal = EventLog(beside)
    for row in rows:
        journal.emit(_KINDS[type(row)], row=row)
    beside.replace(path)
    return journal, rows


_KINDS = {Job: "api_job", EventRow: "api_event", AlertRow: "api_alert"}


def _earlier(path: Path) -> list[Job | EventRow | AlertRow]:
    jobs: dict[str, Job] = {}
    events: list[EventRow] = []
    alerts: list[AlertRow] = []
    for event in read(path):
        if event.kind == "api_job":
            row = event["row"]
            job = Job(**{**row, "phases": tuple(map(tuple, row["phases"]))})
            jobs[job.id] = job
        elif event.kind == "api_event":
            events.append(EventRow(**event["row"]))
        elif event.kind == "api_alert":
            alerts.append(AlertRow(**event["row"]))
    return [*list(jobs.values())[-_MOST:], *events[-_MOST:], *alerts[-_MOST:]]


def remember(state: ServerState, rows: list[Job | EventRow | AlertRow]) -> int:
    """Give a server the rows of an earlier one; returns how many jobs had been in progress.

    Each of those has failed, and is an alert: nobody has seen how it ended.
    """
    lost = 0
    for row in rows:
        if isinstance(row, Job):
            lost += row.status == IN_PROGRESS
            state.jobs.remember(row)
            if row.status == IN_PROGRESS:
                state.chronicle.alert(ROUTER_ALERT, row.command, f"{row.command} {row.id}: {RESTARTED}")
        else:
            state.chronicle.remember(row)
    return lost
