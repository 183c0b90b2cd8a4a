"""Calm before a patch: what a probe saw until then is the measure of its host, and is judged no more."""

from __future__ import annotations

import time

import pytest

from harness.traffic import Traffic
from harness.traffic.measurement import Recorder


def recorder(*answers: float) -> Recorder:
    made = Recorder("load balancer", 0.1, started=0.0)
    for moment in answers:
        made.answered(moment)
    return made


def test_the_longest_gap_until_then_is_told_without_the_wait_for_the_first_answer() -> None:
    assert recorder(3.0, 3.1, 3.6, 3.7).calm() == pytest.approx(400)


@pytest.mark.parametrize("answers", [(), (3.0,)])
def test_less_than_a_request_with_its_answer_says_nothing_of_a_host(answers: tuple[float, ...]) -> None:
    assert recorder(*answers).calm() is None


def test_a_single_answer_says_what_it_took() -> None:
    made = recorder()
    made.sent(2.5)
    made.sent(2.9)
    made.answered(3.0)
    assert made.calm() == pytest.approx(500)


def test_only_what_comes_after_the_last_answer_is_judged() -> None:
    made = recorder(3.0, 3.6)
    made.calm()
    made.answered(4.7)
    assert made.result(4.8).longest_gap_ms == pytest.approx(1000)


def test_a_gap_that_begins_before_a_patch_counts_from_its_last_answer() -> None:
    made = recorder(3.0, 3.1)
    made.calm()
    assert made.result(9.2).longest_gap_ms == pytest.approx(6000)


def test_a_probe_that_never_had_an_answer_is_judged_from_its_start() -> None:
    made = recorder()
    made.calm()
    assert made.result(5.1).longest_gap_ms == pytest.approx(5000)


def test_time_in_which_the_harness_stood_still_is_not_sure() -> None:
    made = recorder(10.0, 10.1, 15.1, 15.2)
    made.started = 10.0
    seen = made.result(15.2, [(11.0, 14.0), (15.15, 15.18)])
    assert seen.longest_gap_ms == pytest.approx(4900, abs=1)
    assert seen.sure_gap_ms == pytest.approx(1900, abs=1)


def test_the_surest_gap_need_not_be_the_longest() -> None:
    made = recorder(10.0, 15.1, 17.2)
    made.started = 10.0
    seen = made.result(17.2, [(10.1, 15.0)])
    assert seen.sure_gap_ms == pytest.approx(2000, abs=1)


def test_a_harness_that_is_held_up_knows_it() -> None:
    with Traffic([], reported={"ping": 10.0}) as traffic:
        traffic.recorder("ping").answered()
        time.sleep(0.1)
        assert traffic._loop is not None
        traffic._loop.call_soon_threadsafe(time.sleep, 0.8)
        time.sleep(1.0)
        traffic.recorder("ping").answered()
    (seen,) = traffic.results
    assert seen.longest_gap_ms > 900
    assert seen.sure_gap_ms is not None
    assert seen.longest_gap_ms - seen.sure_gap_ms == pytest.approx(800, abs=150)
    (row,) = traffic.budgets()
    assert row.sure_ms == seen.sure_gap_ms
