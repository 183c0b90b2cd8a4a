"""The record of a run on many hosts: their events in the run's own log, on its clock, each with its host."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bundle.errors import Exit
from harness.record.clocks import moved
from harness.record.events import RUN_STARTED, Event, EventLog, parse_line

# Begin and end of the run are told by the run itself.
_OWN = {RUN_STARTED, "run_finished"}


@dataclass
class _Clock:
    """The clock of a seat against the run's: the quickest message tells best by how much they differ."""

    ahead: float = float("inf")

    def look(self, here: float, there: float) -> float:
        """Return what is to be added to a seat's time, of which ``there`` was not after ``here`` of the run's."""
        self.ahead = min(self.ahead, here - there)
        return self.ahead


@dataclass
class Record:
    """A log of a run that takes what seats tell.

    Attributes:
        log: of the run.
    """

    log: EventLog
    _clocks: dict[str, _Clock] = field(default_factory=dict)
    _status: dict[str, int | None] = field(default_factory=dict)
    _begun: dict[str, float] = field(default_factory=dict)

    def take(self, seat: str, host: str, lines: Sequence[str]) -> list[Event]:
        """Record lines of a seat's event log; returns the events as they are in the run's.

        Args:
            seat: whose log it is.
            host: the name of its host.
            lines: whole ones.

        Raises:
            UsageError: a line is no event.
        """
        events = [event for line in lines if line and (event := parse_line(line, host)) is not None]
        if not events:
            return []
        by = self._clocks.setdefault(seat, _Clock()).look(self.log.elapsed, events[-1].t)
        found = []
        for event in events:
            if event.kind in _OWN:
                continue
            here = moved(event, by)
            here = replace(here, fields={**here.fields, "host": host})
            self._note(here)
            self.log.copy(here)
            found.append(here)
        return found

    def _note(self, event: Event) -> None:
        name = event.get("scenario", "")
        if event.kind == "scenario_started":
            self._begun[name] = event.t
            self._status.pop(name, None)
        elif event.kind == "scenario_finished":
            self._status[name] = event.get("exit_status")

    def status_of(self, scenario: str) -> int | None:
        """Return the exit status that the latest end of a scenario stands for; None for a finding, or a good end."""
        return self._status.get(scenario)

    def lose(self, scenario: str, host: str, reason: str) -> None:
        """Record the end of a scenario that has begun and whose host is lost; one that has not begun has none."""
        if scenario in self._begun and scenario not in self._status:
            self._end(scenario, reason, host=host)

    def give_up(self, scenario: str, cell: str, reason: str) -> None:
        """Record the end of a scenario that is not made again, and of one that could never begin."""
        if scenario not in self._begun:
            self.log.emit("scenario_started", scenario=scenario, cell=cell, title=scenario)
            self._begun[scenario] = self.log.elapsed
        if scenario not in self._status:
            self._end(scenario, reason, cell=cell)

    def _end(self, scenario: str, reason: str, **fields: str) -> None:
        self._status[scenario] = int(Exit.INFRASTRUCTURE)
        self.log.emit(
            "scenario_finished", scenario=scenario, verdict="error", reason=reason, by_checks=False,
            seconds=max(0.0, self.log.elapsed - self._begun[scenario]),
            exit_status=int(Exit.INFRASTRUCTURE), **fields,
        )  # fmt: skip


def unpack(packed: bytes, folder: Path) -> None:
    """Put the logs of an archive below a folder, each where it was; names that lead elsewhere are refused.

    Raises:
        tarfile.FilterError: a name does.
    """
    if packed:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
            archive.extractall(folder, filter="data")
