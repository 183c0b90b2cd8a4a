"""The journal of a rollout: its event log, from which any moment can be gone on from.

A line is on the disk before what it announces is done: first the intent with the job's id, then the call. So a rollout
that is killed knows afterwards which job to ask for (decision 80).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from bundle.errors import UsageError
from harness.record.events import Event, EventLog, Json, read_with_gaps
from harness.rollout.order import Placed
from harness.rollout.target import RolloutTarget, target_from
from harness.rollout.units import PatchUnit, unit_from

# How far a unit has come: nothing, looked at, call announced, job accepted, job ended, over.
Phase: TypeAlias = Literal["waiting", "begun", "intended", "accepted", "ended", "over"]
PLAN = "rollout_plan"


@dataclass(frozen=True)
class Settings:
    """Settings by which units are patched and verified; none of it changes the order.

    Attributes:
        job_timeout: seconds after which a job is no longer waited for.
        grace: seconds for which a job is asked for after a lost answer, before its call counts as not received.
        settle: seconds within which everything must hold after the job.
        soak: seconds for which the roles of a pair must stay as they are.
        health: whether health checks are run before and after.
        probe: command that is run before and after, with ``{unit}`` and the like; empty for none.
        probe_timeout: seconds for one run of it.
    """

    job_timeout: float = 5400.0
    grace: float = 60.0
    settle: float = 180.0
    soak: float = 60.0
    health: bool = True
    probe: str = ""
    probe_timeout: float = 60.0


@dataclass
class UnitProgress:
    """The progress of one unit.

    Attributes:
        phase: see :data:`Phase`.
        attempt: number of the attempt that the phase is of; 0 before the first.
        job: id of its job, from the intent on.
        began: when the attempt began, seconds since the log's start.
        intended: when its call was announced, likewise.
        before: what was seen of its VMs before, by id.
        seen: the unit as it was then, with the hosts of its VMs.
        verdict: of an attempt that is over.
        reason: of that verdict.
        open: whether its job may still be under way although the attempt is over.
    """

    phase: Phase = "waiting"
    attempt: int = 0
    job: str = ""
    began: float = 0.0
    intended: float = 0.0
    before: dict[str, Json] = field(default_factory=dict)
    seen: PatchUnit | None = None
    verdict: str = ""
    reason: str = ""
    open: bool = False

    @property
    def under_way(self) -> bool:
        """True when a call was announced whose end is not known."""
        return self.phase in {"intended", "accepted", "ended"} or (self.phase == "over" and self.open)


@dataclass
class State:
    """The state of a rollout, as its journal says it.

    Attributes:
        placed: the units in their order.
        target: what is installed.
        settings: how.
        limits: those of the run, as they were asked for.
        api: address of the server.
        units: how far each has come, by id.
        keeps_ids: whether the server takes the ids that are chosen for jobs; None before the first.
        calls: names of the calls that the account may make, with their parameters.
        minimum: minimum template version by zone.
    """

    placed: tuple[Placed, ...]
    target: RolloutTarget
    settings: Settings
    limits: dict[str, Json]
    api: str
    units: dict[str, UnitProgress]
    keeps_ids: bool | None = None
    calls: dict[str, frozenset[str]] = field(default_factory=dict)
    minimum: dict[str, str] = field(default_factory=dict)

    def of(self, unit: PatchUnit) -> UnitProgress:
        """Return how far a unit has come."""
        return self.units.setdefault(unit.id, UnitProgress())


def fold(events: Sequence[Event], name: str) -> State:
    """Return what the events of a rollout amount to.

    Args:
        events: of the journal.
        name: of the rollout, for errors.

    Raises:
        UsageError: they are of no rollout, or end before its plan.
    """
    plan = next((event for event in events if event.kind == PLAN), None)
    if plan is None:
        raise UsageError(
            f"{name} has no plan of a rollout", hint="nothing was sent; begin with 'sysvm rollout run'"
        )
    state = _planned(plan, name)
    for event in events:
        step = _STEPS.get(event.kind)
        unit = event.get("unit")
        if step is None or not isinstance(unit, str) or unit not in state.units:
            continue
        try:
            step(state, state.units[unit], event)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{name}: an event {event.kind!r} of its journal cannot be read ({error})"
            ) from None
    return state


def _planned(plan: Event, name: str) -> State:
    try:
        placed = tuple(Placed(unit_from(row["unit"]), row["stage"], row["seconds"]) for row in plan["order"])
        return State(
            placed=placed,
            target=target_from(plan["target"]),
            settings=Settings(**plan["settings"]),
            limits=plan["limits"],
            api=plan["api"],
            units={row.unit.id: UnitProgress() for row in placed},
            calls={call: frozenset(names) for call, names in plan["calls"].items()},
            minimum=plan["minimum"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{name}: its plan cannot be read ({error})") from None


def _begun(_state: State, unit: UnitProgress, event: Event) -> None:
    unit.phase, unit.attempt, unit.began = "begun", int(event["attempt"]), event.t
    unit.job, unit.verdict, unit.reason, unit.open = "", "", "", False


def _before(_state: State, unit: UnitProgress, event: Event) -> None:
    unit.before, unit.seen = event["before"], unit_from(event["seen"])


def _intended(_state: State, unit: UnitProgress, event: Event) -> None:
    unit.phase, unit.job, unit.intended = "intended", event["job"], event.t


def _accepted(state: State, unit: UnitProgress, event: Event) -> None:
    unit.phase, unit.job = "accepted", event["job"]
    state.keeps_ids = bool(event["own"]) and state.keeps_ids is not False


def _ended(_state: State, unit: UnitProgress, event: Event) -> None:
    # Only a job that succeeded is verified; what follows a failure is its end.
    unit.phase = "ended" if event["status"] == 1 else unit.phase


def _over(_state: State, unit: UnitProgress, event: Event) -> None:
    unit.phase, unit.verdict, unit.reason = "over", event["verdict"], event.get("reason", "")
    unit.open = event.get("open") is True


def _put_back(_state: State, unit: UnitProgress, _event: Event) -> None:
    unit.phase, unit.job = "waiting", ""


_STEPS = {
    "scenario_started": _begun,
    "rollout_before": _before,
    "rollout_intent": _intended,
    "rollout_accepted": _accepted,
    "rollout_job_ended": _ended,
    "scenario_finished": _over,
    "rollout_put_back": _put_back,
}


@dataclass
class RolloutJournal:
    """The journal while it is written."""

    log: EventLog

    def plan(self, state: State, facts: Mapping[str, str], options: Mapping[str, str]) -> None:
        """Record the plan and who asked for it."""
        self.log.emit("run", facts=dict(facts))
        self.log.emit("options", options=dict(options))
        self.log.emit(
            PLAN,
            api=state.api,
            target=asdict(state.target),
            settings=asdict(state.settings),
            limits=state.limits,
            order=[asdict(row) for row in state.placed],
            calls={name: sorted(names) for name, names in state.calls.items()},
            minimum=state.minimum,
        )

    def about(self, unit: PatchUnit, standing: UnitProgress, kind: str, **fields: Json) -> Event:
        """Record something about a unit; it is on the disk when this returns."""
        return self.log.emit(kind, scenario=unit.slug, unit=unit.id, attempt=standing.attempt, **fields)


def create(path: Path) -> EventLog:
    """Begin a journal; its clock is the wall's, for it may be gone on with after a restart of this machine."""
    log = EventLog(path, clock=time.time)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return log


def reopen(path: Path) -> tuple[EventLog, list[Event]]:
    """Open a journal to go on with it, and return what it holds.

    A line that was not finished when its writer died announced nothing that was done: it is cut off, which is recorded.

    Raises:
        UsageError: there is none, or a line of it is no event: what it announced is not known.
    """
    removed = _cut(path)
    events, skipped = read_with_gaps(path)
    if skipped:
        raise UsageError(
            f"{path}: line {skipped[0]} cannot be read, and may have announced a call",
            hint="look at the cloud with 'sysvm rollout plan', and begin a new rollout",
        )
    log = EventLog(path, clock=time.time)
    log.emit("rollout_resumed", removed=removed)
    return log, events


def _cut(path: Path) -> str:
    """Remove the unfinished last line of a journal and return it."""
    try:
        with path.open("r+b") as file:
            data = file.read()
            whole = data.rfind(b"\n") + 1
            if whole == len(data) or not whole:
                return ""
            file.truncate(whole)
            file.flush()
            os.fsync(file.fileno())
            return data[whole:].decode("utf-8", "backslashreplace")
    except OSError as error:
        raise UsageError(f"cannot go on with {path}: {error.strerror}") from None
