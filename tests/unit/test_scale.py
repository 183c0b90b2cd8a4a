"""The simulation of many hosts: no way is faster than the work allows, and both do all of it."""

from __future__ import annotations

import pytest

from tests.bench import scale

CELLS = scale.durations()


@pytest.mark.parametrize("hosts", [1, 10, 56, 150])
def test_no_way_is_faster_than_the_work_allows(hosts: int) -> None:
    best = scale.ideal(CELLS, hosts)
    for way in (scale.shards, scale.cluster):
        assert way(CELLS, hosts).makespan >= 0.999 * best


def test_shards_stop_where_there_is_a_host_for_each_cell() -> None:
    assert scale.shards(CELLS, 56) == scale.shards(CELLS, 1000)
    assert scale.shards(CELLS, 28).makespan > scale.shards(CELLS, 56).makespan


def test_each_snapshot_is_made_once_and_sent_to_who_has_it_not() -> None:
    alone, many = scale.cluster(CELLS, 1), scale.cluster(CELLS, 100)
    assert (alone.made, alone.sent) == (56, 0)
    assert many.made == 56
    assert many.sent > 0


def test_the_knee_is_the_last_number_of_hosts_that_are_used_well() -> None:
    assert scale.knee([(1, 100.0, 100.0), (10, 10.0, 20.0), (100, 1.0, 15.0)]) == 10
