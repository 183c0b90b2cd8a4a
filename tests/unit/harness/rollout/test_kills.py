"""A rollout that dies at any moment goes on without patching anything twice, and forgets nothing.

Here it dies at every single moment in turn: before and after each call, before, after and in the middle of each line of
its journal. ``test_command.py`` kills the real command, over HTTP.
"""

import os
import random

import pytest

from bundle.errors import UsageError
from harness.record.events import EventLog, read
from harness.rollout.journal import RolloutJournal, reopen
from harness.rollout.order import RolloutLimits
from harness.rollout.run import Run
from tests.unit.harness.rollout import playing
from tests.unit.harness.rollout.stand_in import Cloud, Killed, Wire, small

AT_LENGTH = pytest.mark.skipif("SYSVM_ROLLOUT_KILLS" not in os.environ, reason="nox -s rollout runs it")


class Fate:
    """Lets a rollout die at the moment with a certain number; counts them all."""

    def __init__(self, moment):
        self.moment = moment
        self.count = 0

    def __call__(self, *_):
        self.count += 1
        if self.count == self.moment:
            raise Killed


class DyingLog(EventLog):
    """A journal whose writer may die before a line, after it, or in the middle of it."""

    def __init__(self, path, cloud, fate):
        self.fate = None
        super().__init__(path, clock=lambda: cloud.clock.now().timestamp())
        self.fate = fate

    def emit(self, kind, **fields):
        if self.fate is None:
            return super().emit(kind, **fields)
        self.fate()
        size = self.path.stat().st_size
        event = super().emit(kind, **fields)
        try:
            self.fate()
        except Killed:
            os.truncate(self.path, (size + self.path.stat().st_size) // 2)
            raise
        self.fate()
        return event


def live(cloud, path, fate, limits):
    """Run, or go on where a journal has a plan; the rollout dies when its fate says so."""
    wire = Wire(cloud, fate)
    if not path.exists():
        made = playing.plan(cloud, limits)
        with playing.log_at(path, cloud) as log:
            RolloutJournal(log).plan(playing.state_of(made), {}, {})
    playing.journals._cut(path)
    state = playing.state(path)
    with DyingLog(path, cloud, fate) as log:
        return Run(playing.work(cloud, log, state, limits, wire)).go()


@pytest.fixture
def whole(tmp_path):
    """How many moments there are, at most."""

    def count(limits):
        cloud, fate = Cloud(), Fate(0)
        small(cloud)
        live(cloud, tmp_path / "whole.jsonl", fate, limits)
        (tmp_path / "whole.jsonl").unlink()
        return fate.count

    return count


@pytest.mark.parametrize("at_once", [3, pytest.param(1, marks=AT_LENGTH)])
def test_dying_once_at_every_moment_patches_nothing_twice_and_forgets_nothing(tmp_path, whole, at_once):
    limits = RolloutLimits(at_once=at_once)
    number = whole(limits)
    assert number > 150
    for moment in range(1, number + 1):
        cloud, path = Cloud(), tmp_path / f"{moment}.jsonl"
        ids = small(cloud)
        with pytest.raises(Killed):
            live(cloud, path, Fate(moment), limits)
        result = live(cloud, path, Fate(0), limits)
        assert result.verdict == "passed", (moment, result)
        assert dict(cloud.patched) == dict.fromkeys(ids.values(), 1), moment
        assert set(playing.verdicts(path).values()) == {"passed"}, moment
        assert cloud.violations == [], moment
        path.unlink()


def test_dying_again_and_again_patches_nothing_twice_and_forgets_nothing(tmp_path):
    chance = random.Random(7)
    for number in range(40):
        cloud, path, deaths = Cloud(), tmp_path / f"{number}.jsonl", 0
        ids = small(cloud)
        while True:
            try:
                result = live(cloud, path, Fate(chance.randrange(1, 80)), RolloutLimits(at_once=2))
                break
            except Killed:
                deaths += 1
                cloud.clock.sleep(chance.choice([0.0, 1.0, 50.0, 900.0]))
        assert result.verdict == "passed"
        assert deaths > 0
        assert dict(cloud.patched) == dict.fromkeys(ids.values(), 1)
        assert set(playing.verdicts(path).values()) == {"passed"}
        assert cloud.violations == []


def test_a_job_that_a_server_has_forgotten_is_judged_by_what_can_be_seen(tmp_path):
    """A rollout dies right after a call; the server forgets its jobs before it goes on, two days later."""
    path, cloud = tmp_path / "events.jsonl", Cloud()
    ids = small(cloud)

    def after_the_call(*said):
        if said == ("restartNetwork", "after"):
            raise Killed

    with pytest.raises(Killed):
        live(cloud, path, after_the_call, RolloutLimits())
    cloud.clock.sleep(1000.0)
    cloud.answer("listCapabilities", {})
    cloud.clock.sleep(2 * 86400.0)
    cloud.jobs.clear()
    assert live(cloud, path, Fate(0), RolloutLimits()).verdict == "passed"
    assert dict(cloud.patched) == dict.fromkeys(ids.values(), 1)


def test_a_call_of_long_ago_without_job_and_effect_is_left_to_a_person(tmp_path):
    path, cloud = tmp_path / "events.jsonl", Cloud()
    ids = small(cloud)

    def before_the_call(*said):
        if said == ("restartNetwork", "before"):
            raise Killed

    with pytest.raises(Killed):
        live(cloud, path, before_the_call, RolloutLimits())
    cloud.clock.sleep(2 * 86400.0)
    assert live(cloud, path, Fate(0), RolloutLimits()).verdict == "failed"
    open_units = [unit for unit, standing in playing.state(path).units.items() if standing.open]
    assert len(open_units) == 1
    assert open_units[0] not in cloud.patched
    assert open_units[0] in ids.values()


def test_a_journal_with_a_damaged_line_is_not_gone_on_from(tmp_path):
    """The line may have announced a call."""
    path, cloud = tmp_path / "events.jsonl", Cloud()
    small(cloud)
    with pytest.raises(Killed):
        live(cloud, path, Fate(60), RolloutLimits())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:7], lines[7][:20] + b"\n", *lines[8:]]))
    with pytest.raises(UsageError, match="line 8 cannot be read, and may have announced a call"):
        reopen(path)


def test_an_unfinished_last_line_is_cut_off_and_that_is_recorded(tmp_path):
    path, cloud = tmp_path / "events.jsonl", Cloud()
    small(cloud)
    with pytest.raises(Killed):
        live(cloud, path, Fate(60), RolloutLimits())
    with path.open("ab") as file:
        file.write(b'{"t": 1.0, "kind": "rollout_int')
    log, events = reopen(path)
    log.close()
    assert events[-1].kind != "rollout_resumed"
    assert read(path)[-1]["removed"].endswith('{"t": 1.0, "kind": "rollout_int')
