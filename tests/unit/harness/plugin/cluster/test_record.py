"""The record of a run on hosts: one clock, every event with its host, and an end for what a host died of."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from harness.plugin.cluster.record import Record, unpack
from harness.record.events import EventLog, read
from harness.report import build


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def record(tmp_path, clock):
    with EventLog(tmp_path / "events.jsonl", clock=clock) as log:
        yield Record(log)


def line(t, kind, **fields):
    return json.dumps({"t": t, "at": "2026-01-31T10:00:00.000+00:00", "kind": kind, **fields})


def of(record, kind):
    return [event for event in read(record.log.path) if event.kind == kind]


def test_events_of_a_host_are_on_the_clock_of_the_run_and_name_it(record, clock):
    clock.now += 50.0
    record.take(
        "1", "h1", [line(0.0, "run_started", monotonic=7.0), line(3.0, "scenario_started", scenario="S")]
    )
    (event,) = of(record, "scenario_started")
    assert event.t == pytest.approx(50.0)
    assert event["host"] == "h1"
    # The begin of the host's log is not the run's.
    assert len(of(record, "run_started")) == 1


def test_the_quickest_message_tells_by_how_much_clocks_differ(record, clock):
    clock.now += 10.0
    record.take("1", "h1", [line(0.0, "restored")])
    clock.now += 1.0
    record.take("1", "h1", [line(1.5, "restored")])
    assert [event.t for event in of(record, "restored")] == [10.0, 11.0]


def test_the_times_within_a_probe_move_with_it(record, clock):
    clock.now += 100.0
    probe = line(
        5.0, "probe", name="p", started=1.0, ended=4.0, gaps=[[2.0, 3.0]], first_loss=2.0, last_loss=None
    )
    record.take("1", "h1", [probe])
    (event,) = of(record, "probe")
    assert (event["started"], event["ended"], event["gaps"]) == (96.0, 99.0, [[97.0, 98.0]])
    assert (event["first_loss"], event["last_loss"]) == (97.0, None)


def test_a_line_that_a_dying_host_left_unfinished_is_left_out(record):
    record.take("1", "h1", ['{"t": 1.0, "at'])
    assert len(read(record.log.path)) == 1


def test_a_scenario_that_its_host_died_of_has_an_end_and_is_once_in_the_report(record):
    record.take("1", "h1", [line(0.0, "scenario_started", scenario="S", type="router")])
    record.lose("S", "h1", "h1 is gone")
    assert record.status_of("S") == 3
    record.take("2", "h2", [line(0.0, "scenario_started", scenario="S", type="router")])
    assert record.status_of("S") is None
    done = line(2.0, "scenario_finished", scenario="S", verdict="passed", seconds=2.0, exit_status=None)
    record.take("2", "h2", [done])
    record.lose("S", "h2", "too late: it has an end")
    record.log.emit("run_finished", verdict="passed")
    (row,) = build(read(record.log.path)).scenarios
    assert (row.id, row.verdict, row.retried) == ("S", "passed", ("h1 is gone",))


def test_a_scenario_that_is_given_up_is_an_error_with_its_reason(record):
    record.give_up("S", "router-from-4.21", "no host is left")
    record.log.emit("run_finished", verdict="failed")
    (row,) = build(read(record.log.path)).scenarios
    assert (row.verdict, row.reason) == ("error", "no host is left")


def packed(name):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 5
        archive.addfile(member, io.BytesIO(b"slept"))
    return data.getvalue()


def test_logs_of_a_host_lie_where_they_lay_there(tmp_path):
    unpack(packed("S/console.log"), tmp_path / "logs")
    unpack(b"", tmp_path / "nothing")
    assert (tmp_path / "logs/S/console.log").read_text() == "slept"
    assert not (tmp_path / "nothing").exists()


def test_logs_never_lie_outside_of_their_folder(tmp_path):
    with pytest.raises(tarfile.FilterError):
        unpack(packed("../outside.log"), tmp_path / "logs")
    assert not (tmp_path / "outside.log").exists()
