"""A run's seed: as named, as a worker was told, or drawn once; and repetitions draw other moments."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from harness.plugin.choosing import hands_on
from harness.plugin.options import SEED_KEY, seed_of
from harness.plugin.planning import plan


def config(named: int | None, **told: int) -> Any:
    made = SimpleNamespace(getoption=lambda _: named, stash=pytest.Stash())
    if told:
        made.workerinput = told
    return made


def test_a_seed_is_the_named_one_or_the_one_that_all_workers_have() -> None:
    assert seed_of(config(7)) == 7
    assert seed_of(config(None, **{SEED_KEY: 8})) == 8
    assert seed_of(config(0)) == 0


def test_a_seed_that_nobody_names_is_drawn_once() -> None:
    drawn = [config(None) for _ in range(3)]
    assert len({seed_of(each) for each in drawn}) > 1
    assert seed_of(drawn[0]) == seed_of(drawn[0])
    assert random.Random(seed_of(drawn[0])).random() == random.Random(seed_of(drawn[0])).random()


def test_only_scenarios_that_draw_are_repeated() -> None:
    once = {row.id for row in plan(["--scenario=power-cut,S08"])}
    thrice = {row.id for row in plan(["--scenario=power-cut,S08", "--times=3"])}
    assert {identifier for identifier in once if "S08" in identifier} <= thrice
    cuts = sorted(identifier for identifier in thrice if "S06-power-cut" in identifier)
    assert [identifier.rpartition("-")[2] for identifier in cuts] == ["1", "2", "3"]


def test_nobody_hands_a_vm_on_to_nobody() -> None:
    item: Any = SimpleNamespace(stash=pytest.Stash())
    assert not hands_on(item)
