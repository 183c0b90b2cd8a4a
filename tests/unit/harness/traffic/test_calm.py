"""Calm before a patch: what a probe saw until then is the measure of its host, and is judged no more."""

from __future__ import annotations

import pytest

from harness.traffic.measurement import Recorder


def recorder(*answers: float) -> Recorder:
    made = Recorder("load balancer", 0.1, started=0.0)
    for moment in answers:
        made.answered(moment)
    return made


def test_the_longest_gap_until_then_is_told_without_the_wait_for_the_first_answer() -> None:
    assert recorder(3.0, 3.1, 3.6, 3.7).calm() == pytest.approx(400)


@pytest.mark.parametrize("answers", [(), (3.0,)])
def test_fewer_than_two_answers_say_nothing_of_a_host(answers: tuple[float, ...]) -> None:
    assert recorder(*answers).calm() is None


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
