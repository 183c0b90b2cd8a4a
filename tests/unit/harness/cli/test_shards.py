"""A run in shards: played with scenarios that need no VM, and merged to what the whole run says."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.errors import CheckFailed, UsageError
from harness.plugin.shards import Shard, assign, read_shard
from harness.record.events import EventLog, read
from harness.record.results import ResultsFolder
from harness.report import load
from harness.report.merge import merge

PLAYING = Path(__file__).with_name("playing.py")
ROOT = Path(__file__).parents[4]
SCENARIOS = '''
import pytest

@pytest.mark.scenario("good", default=True)
def test_good(system_vm_cell):
    """Holds."""

@pytest.mark.scenario("moment", default=True)
def test_moment(system_vm_cell, draw):
    """Says what it drew."""
    pytest.fail(f"drew {draw.random()}", pytrace=False)

@pytest.mark.scenario("none", default=True, types=("ilbvm",), why="only balancers balance")
def test_none(system_vm_cell):
    """Is for others."""
'''
MATRIX = ["--type", "router,dhcpsrvr,ilbvm", "--from", "4.15,4.20"]


def play(folder, *arguments):
    return subprocess.run(
        [sys.executable, str(PLAYING), str(folder / "scenarios"), *arguments, "--results", str(folder / "results")],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True, check=False, timeout=300,
    )  # fmt: skip


def ran(folder, *arguments):
    done = play(folder, "run", *MATRIX, *arguments)
    assert done.returncode == 1, done.stderr
    return ResultsFolder((folder / "results" / "latest").resolve())


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Yield the folder of a whole run and of its two shards, one with a worker process and one without."""
    folder = tmp_path_factory.mktemp("played")
    (folder / "scenarios").mkdir()
    (folder / "scenarios" / "test_played.py").write_text(SCENARIOS)
    whole = ran(folder, "--seed", "0", "--workers", "0")
    shards = [ran(folder, "--shard", f"{number}/2", "--workers", str(number - 1)) for number in (1, 2)]
    return folder, whole, shards


def cases(report):
    return {
        row.id: (row.verdict, row.reason, row.title, row.vm_type, row.from_release)
        for row in report.scenarios
    }


def test_two_shards_and_their_merge_equal_one_whole_run_case_by_case(played):
    folder, whole, shards = played
    done = play(folder, "report", "--merge", *(shard.name for shard in shards))
    assert done.returncode == 1, done.stderr
    merged = load(ResultsFolder((folder / "results" / "latest").resolve()))
    assert cases(merged) == cases(load(whole))
    assert len(merged.scenarios) == 18
    assert (merged.verdict, merged.options) == (load(whole).verdict, load(whole).options)


def test_a_cell_is_in_one_shard(played):
    cells = [
        {re.match(r"\w+-from-[\d.]+", row.id)[0] for row in load(shard).scenarios} for shard in played[2]
    ]
    assert [len(found) for found in cells] == [3, 3]
    assert not cells[0] & cells[1]


def test_each_shard_says_first_what_it_plans(played):
    for shard in played[2]:
        events = read(shard.events)
        planned = [event for event in events if event.kind == "planned"]
        assert len(planned) == 1
        assert planned[0]["scenarios"] == sorted(planned[0]["scenarios"], key=planned[0]["scenarios"].index)
        assert set(planned[0]["scenarios"]) == {row.id for row in load(shard).scenarios}
        assert events.index(planned[0]) < min(
            place for place, event in enumerate(events) if event.kind == "scenario_started"
        )


@pytest.fixture
def shards(played, tmp_path):
    """Return copies of the shards that a test may damage."""
    return [ResultsFolder(Path(shutil.copytree(shard.folder, tmp_path / shard.name))) for shard in played[2]]


def rewrite(shard, change):
    lines = [json.loads(line) for line in shard.events.read_text().splitlines()]
    shard.events.write_text("".join(f"{json.dumps(line)}\n" for line in lines if change(line)))


def refused(tmp_path, shards):
    target = ResultsFolder(tmp_path / "merged")
    target.folder.mkdir()
    with pytest.raises(CheckFailed) as error:
        merge(shards, target)
    assert not target.events.exists()
    return str(error.value)


def test_a_shard_that_died_is_named(tmp_path, shards):
    rewrite(shards[1], lambda line: line["kind"] != "run_finished")
    assert refused(tmp_path, shards) == f"shard 2/2 (run {shards[1].name}) has died: it recorded no end"


def test_a_scenario_that_never_ended_is_named_with_its_shard(tmp_path, shards):
    lost = load(shards[0]).scenarios[0].id
    rewrite(shards[0], lambda line: line["kind"] != "scenario_finished" or line["scenario"] != lost)
    assert refused(tmp_path, shards) == f"shard 1/2 (run {shards[0].name}): 1 scenarios have no end: {lost}"


def test_a_shard_that_is_missing_or_there_twice_is_named(tmp_path, shards):
    assert refused(tmp_path, shards[:1]) == "shard 2/2 is missing"
    (tmp_path / "merged").rmdir()
    assert refused(tmp_path, [*shards, shards[0]]) == "shard 1/2 is there 2 times"


def test_shards_of_other_options_are_refused(tmp_path, shards):
    def other_seed(line):
        if line["kind"] == "options":
            line["options"]["--seed"] = "7"
        return True

    rewrite(shards[1], other_seed)
    assert "were told other options" in refused(tmp_path, shards)


def subject(shard, digest):
    with EventLog(shard.events) as log:
        log.emit("subject", subject={"bundle": {"files": {"agent.zip": digest}}})


def test_shards_that_tested_two_bundles_are_refused(tmp_path, shards):
    subject(shards[0], "a" * 64)
    subject(shards[1], "b" * 64)
    assert "the shards tested 2 bundles" in refused(tmp_path, shards)


def test_times_and_logs_of_a_later_shard_are_moved(tmp_path, shards):
    subject(shards[0], "a" * 64)
    subject(shards[1], "a" * 64)
    with EventLog(shards[1].events) as log:
        own = log.emit(
            "probe", name="p", started=1.0, ended=3.0, gaps=[[1.5, 2.0]], sent=2, lost=0, longest_gap_ms=9
        )
        log.emit("logs", files=["logs/r/console.log"])
    shards[1].log("r/console.log").write_text("booted")
    target = ResultsFolder(tmp_path / "merged")
    target.folder.mkdir()
    merge(shards, target)
    events = read(target.events)
    probe = next(event for event in events if event.kind == "probe")
    by = probe["started"] - 1.0
    assert by > 0  # the second shard was played after the first
    assert (probe["ended"], probe["gaps"]) == (3.0 + by, [[1.5 + by, 2.0 + by]])
    assert probe.t == pytest.approx(own.t + by, abs=1e-5)
    assert [event.t for event in events] == sorted(event.t for event in events)
    file = next(event for event in events if event.kind == "logs" and "shard" in event.fields)["files"][0]
    assert (target.folder / file).read_text() == "booted"


def test_a_run_that_is_no_shard_is_a_usage_error(tmp_path, played):
    with pytest.raises(UsageError, match="is no shard"):
        merge([played[1]], ResultsFolder(tmp_path))


def test_the_dearest_cells_are_dealt_first_and_each_shard_gets_as_much():
    costs = {"a": 9.0, "b": 5.0, "c": 4.0, "d": 1.0}
    assert assign(costs, 2) == {"a": 1, "b": 2, "c": 2, "d": 1}
    assert assign(dict(reversed(costs.items())), 2) == assign(costs, 2)


def test_an_earlier_run_balances_the_shards(played, tmp_path):
    folder, whole, _ = played
    slow = {"router-from-4.15", "router-from-4.20"}
    shipped = {"good": "live-patch", "moment": "S01-rollback", "none": "born-new"}

    def change(line):
        if cell := line.get("scenario"):  # what is listed are the shipped ones
            cell, _, name = cell.rpartition("-")
            line["scenario"] = f"{cell}-{shipped.get(name, name)}"
        if line["kind"] == "scenario_finished":
            line["seconds"] = 1000.0 if any(line["scenario"].startswith(cell) for cell in slow) else 1.0
        return True

    copy = ResultsFolder(Path(shutil.copytree(whole.folder, tmp_path / "earlier")))
    rewrite(copy, change)
    done = play(folder, "run", *MATRIX, "--shard", "1/2", "--balance", str(copy.folder), "--list", "--json")
    assert done.returncode == 0, done.stderr
    listed = {row["id"] for row in json.loads(done.stdout)}
    assert sum(any(name.startswith(cell) for name in listed) for cell in slow) == 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_shard_that_cannot_be_is_refused(text):
    with pytest.raises(UsageError, match="invalid --shard"):
        read_shard(text)
    assert read_shard("2/5") == Shard(2, 5)


def test_more_shards_than_cells_is_one_line(played):
    done = play(played[0], "run", "--shard", "2/2")
    assert done.returncode == 2
    assert done.stderr == "sysvm: --shard 2/2: there are 1 cells, so at most 1 shards\n"
