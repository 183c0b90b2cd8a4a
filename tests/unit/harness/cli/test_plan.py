"""What a run would do and cost, said before it runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import sysvm
from harness.report.history import cost_of

RUNS = Path(__file__).parents[3] / "data/runs"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with a run in it that went well."""
    shutil.copytree(RUNS / "main-job", tmp_path / "yesterday")
    return tmp_path


def plan(results: Path, *words: str) -> str:
    done = CliRunner().invoke(
        sysvm, ["run", "--results", str(results), "--from", "4.20..4.21", *words], standalone_mode=False
    )
    assert done.exception is None
    assert done.return_value == 0
    return done.stdout


def test_a_dry_run_says_what_each_scenario_took_the_last_times(results: Path) -> None:
    rows = {row["id"]: row for row in json.loads(plan(results, "--dry-run", "--json"))}
    assert set(rows) == {
        f"router-from-{release}-{name}"
        for release in ("4.20", "4.21")
        for name in ("live-patch", "S01-rollback")
    }
    own, other = (rows[f"router-from-{release}-live-patch"]["seconds"] for release in ("4.21", "4.20"))
    assert own == other > 1  # what never ran in a cell is told by the others
    last = plan(results, "--dry-run").splitlines()[-1]
    total = sum(row["seconds"] for row in rows.values())
    assert last.startswith("4 of 4 scenarios would run, in 2 cells: about ")
    assert f"about {total / 2:.0f} s with 2 at a time" in last


def test_a_list_runs_nothing_and_says_no_cost(results: Path) -> None:
    lines = plan(results, "--list").splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("router-from-4.2")
    assert [path.name for path in results.iterdir()] == ["yesterday"]


def test_without_an_earlier_run_the_cost_is_not_known(tmp_path: Path) -> None:
    assert "no earlier run says how long they take" in plan(tmp_path, "--dry-run")


def test_of_several_runs_the_middle_one_counts() -> None:
    assert cost_of("a-S01", "S01", {"a-S01": [1.0, 30.0, 3.0], "b-S01": [9.0]}) == 3.0
    assert cost_of("c-S02", "S02", {"a-S01": [1.0]}) is None
