"""Plays rollouts against a stand-in: from a cloud to a plan, to a run in a folder, and on after its death."""

from __future__ import annotations

from bundle import catalogue
from harness.record.events import EventLog, read
from harness.rollout import journal as journals
from harness.rollout.api import Api
from harness.rollout.clock import window_of
from harness.rollout.course import RolloutWork
from harness.rollout.history import Measured
from harness.rollout.journal import RolloutJournal, Settings, State, UnitProgress
from harness.rollout.order import RolloutLimits
from harness.rollout.plan import Choice, Planner
from harness.rollout.run import Run
from harness.rollout.survey import survey
from harness.rollout.target import RolloutTarget
from tests.unit.harness.rollout.stand_in import NEW, RELEASE, Wire

API = "http://127.0.0.1/client/api"
TARGET = RolloutTarget(RELEASE, (NEW,))
QUICK = Settings(job_timeout=600.0, settle=30.0, soak=5.0)
FACTS = catalogue.load()


def plan(cloud, limits=None, choice=None, target=TARGET, wire=None):
    api = Api(wire or Wire(cloud), cloud.clock)
    planner = Planner(
        choice or Choice(), limits or RolloutLimits(), Measured(), API, cloud.clock.now(), FACTS
    )
    return planner.plan(survey(api), target)


def state_of(made, settings=QUICK):
    return State(
        placed=made.order,
        target=made.target,
        settings=settings,
        limits={},
        api=API,
        units={row.unit.id: UnitProgress() for row in made.order},
        calls=made.cloud.calls,
        minimum=made.cloud.minimum,
    )


def work(cloud, log, state, limits, wire):
    return RolloutWork(Api(wire, cloud.clock), RolloutJournal(log), state, limits, FACTS)


def log_at(path, cloud):
    return EventLog(path, clock=lambda: cloud.clock.now().timestamp())


def run(cloud, path, limits=None, *, settings=QUICK, choice=None, wire=None, made=None, **more):
    """Plan and run, and return the result."""
    limits, wire = limits or RolloutLimits(), wire or Wire(cloud)
    made = made or plan(cloud, limits, choice)
    with log_at(path, cloud) as log:
        state = state_of(made, settings)
        RolloutJournal(log).plan(state, {}, {})
        return Run(work(cloud, log, state, limits, wire), **more).go()


def resume(cloud, path, limits=None, wire=None, **more):
    """Go on from the journal alone, and return the result."""
    limits, wire = limits or RolloutLimits(), wire or Wire(cloud)
    journals._cut(path)
    state = journals.fold(read(path), "test")
    with log_at(path, cloud) as log:
        return Run(work(cloud, log, state, limits, wire), **more).go()


def state(path):
    return journals.fold(read(path), "test")


def verdicts(path):
    return {
        row.unit.name: (standing := state(path).of(row.unit)).verdict or standing.phase
        for row in state(path).placed
    }


def window(text):
    return window_of(text, "UTC")
