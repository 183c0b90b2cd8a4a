"""What a run would do and cost, said before it runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import _plan, sysvm
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
    *lines, last = plan(results, "--dry-run").splitlines()
    seconds = {
        name: int(number)
        for name, number in (re.fullmatch(r"(\S+)  (\d+) s", line).groups() for line in lines)
    }
    assert set(seconds) == {
        f"router-from-{release}-{name}"
        for release in ("4.20", "4.21")
        for name in ("live-patch", "S01-rollback")
    }
    # What never ran in a cell is told by the others.
    assert seconds["router-from-4.20-live-patch"] == seconds["router-from-4.21-live-patch"] > 1
    total = re.fullmatch(
        r"4 of 4 scenarios would run, in 2 cells: about (\d+) s with 2 at a time, by the last runs", last
    )
    assert total
    assert abs(int(total[1]) - sum(seconds.values()) / 2) <= 2
    assert [path.name for path in results.iterdir()] == ["yesterday"]


def test_without_an_earlier_run_the_cost_is_not_known() -> None:
    rows = [{"type": "router", "from": "4.21", "skipped": "", "seconds": None}]
    assert (
        _plan._total(rows, 2)
        == "1 of 1 scenarios would run, in 1 cells; no earlier run says how long they take"
    )


def test_of_several_runs_the_middle_one_counts() -> None:
    assert cost_of("a-S01", "S01", {"a-S01": [1.0, 30.0, 3.0], "b-S01": [9.0]}) == 3.0
    assert cost_of("c-S02", "S02", {"a-S01": [1.0]}) is None
