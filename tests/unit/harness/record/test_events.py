"""The event log: complete lines, one clock, and a reader that survives a dead writer."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundle.errors import UsageError
from harness.record.events import EventLog, read


class FakeClock:
    def __init__(self, value: float = 100.0) -> None:
        self.value = value

    def __call__(self) -> float:
        return self.value


def test_times_count_from_the_start_of_the_run(tmp_path: Path) -> None:
    clock = FakeClock()
    with EventLog(tmp_path / "e.jsonl", clock=clock) as log:
        clock.value = 102.5
        log.emit("check", name="services.renewed", verdict="passed")
    first, second = read(tmp_path / "e.jsonl")
    assert (first.kind, first.t) == ("run_started", 0.0)
    assert (second.kind, second.t, second["name"]) == ("check", 2.5, "services.renewed")
    assert second.at.endswith("+00:00")


def test_a_second_process_joins_the_clock_of_the_first(tmp_path: Path) -> None:
    clock = FakeClock()
    path = tmp_path / "e.jsonl"
    EventLog(path, clock=clock).close()
    clock.value = 107.0
    with EventLog(path, clock=clock) as joined:
        assert joined.elapsed == 7.0
        assert joined.emit("note").t == 7.0
    assert [event.kind for event in read(path)] == ["run_started", "note"]


def test_values_of_the_program_become_plain_json(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Gap:
        start: float
        end: float

    with EventLog(tmp_path / "e.jsonl") as log:
        event = log.emit("probe", gaps=(Gap(1.0, 2.0),), path=Path("/etc"), names={"b", "a"}, raw=b"\xff")
    assert event.fields == {
        "gaps": [{"start": 1.0, "end": 2.0}],
        "path": "/etc",
        "names": ["a", "b"],
        "raw": "\\xff",
    }


def test_a_value_that_json_cannot_say_is_refused(tmp_path: Path) -> None:
    with EventLog(tmp_path / "e.jsonl") as log, pytest.raises(TypeError, match="cannot record a object"):
        log.emit("x", value=object())
    assert len(read(tmp_path / "e.jsonl")) == 1


def test_fields_may_not_shadow_the_clock(tmp_path: Path) -> None:
    with EventLog(tmp_path / "e.jsonl") as log, pytest.raises(ValueError, match="may not set t"):
        log.emit("x", t=1)


def test_hostile_text_stays_on_its_line(tmp_path: Path) -> None:
    with EventLog(tmp_path / "e.jsonl") as log:
        log.emit("output", text='a\n{"kind": "check"}\u2028\x85\x00')
    assert [event.kind for event in read(tmp_path / "e.jsonl")] == ["run_started", "output"]
    assert read(tmp_path / "e.jsonl")[1]["text"] == 'a\n{"kind": "check"}\u2028\x85\x00'


def test_a_line_that_a_dying_writer_left_is_skipped_and_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    EventLog(path).close()
    with path.open("a") as file:
        file.write('{"t": 3, "at": "", "ki')
    with EventLog(path) as log:
        log.emit("after")
    assert [event.kind for event in read(path)] == ["run_started", "after"]


def test_threads_never_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    with EventLog(path) as log:
        threads = [
            threading.Thread(target=lambda: [log.emit("n", text="x" * 500) for _ in range(20)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = path.read_text().splitlines()
    assert len(lines) == 81
    times = [json.loads(line)["t"] for line in lines]
    assert times == sorted(times)


def test_a_failing_step_records_its_end_and_reason(tmp_path: Path) -> None:
    with (
        EventLog(tmp_path / "e.jsonl") as log,
        pytest.raises(RuntimeError),
        log.step("boot", scenario="S01"),
    ):
        raise RuntimeError("no answer on port 3922")
    end = read(tmp_path / "e.jsonl")[-1]
    assert (end.kind, end["verdict"], end["reason"]) == ("step_finished", "failed", "no answer on port 3922")
    assert end["scenario"] == "S01"


def test_a_missing_field_names_the_kind(tmp_path: Path) -> None:
    with EventLog(tmp_path / "e.jsonl") as log:
        event = log.emit("check")
    with pytest.raises(KeyError, match="event 'check' has no field 'name'"):
        event["name"]


@pytest.mark.parametrize("content", ["", "hello\n", '{"t": 0, "at": "", "kind": "check"}\n', "[1]\n"])
def test_another_file_is_not_taken_for_a_log(tmp_path: Path, content: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match="not an event"):
        read(path)


def test_an_absent_log_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the event log .*No such file"):
        read(tmp_path / "none")
