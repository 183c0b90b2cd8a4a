"""Repeating a scenario: the right one is found in the events of a run, and gets the options that it had."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.errors import UsageError
from harness.record.events import EventLog, read
from harness.report import RunReport, build, repeat


def report(tmp_path: Path, *verdicts: str, options: dict[str, str] | None = None) -> RunReport:
    """Return the report of a run with scenarios S01, S02, … that ended so."""
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.emit("options", options=options or {"--to": "4.22"})
        for number, verdict in enumerate(verdicts, 1):
            name = f"ilbvm-from-4.15-S0{number}-x"
            log.emit("scenario_started", scenario=name, type="ilbvm", **{"from": "4.15", "to": "4.22"})
            log.emit("scenario_finished", scenario=name, verdict=verdict, reason="", seconds=1.0)
        log.emit("run_finished", verdict="failed", reason="")
    return build(read(path), name="a-run")


def test_the_only_failed_scenario_is_repeated_in_its_own_cell(tmp_path: Path) -> None:
    made = report(tmp_path, "passed", "failed")
    row = repeat.choose(made, None)
    assert row.id == "ilbvm-from-4.15-S02-x"
    assert repeat.arguments_of(made, row) == [
        "--to=4.22", "--type=ilbvm", "--from=4.15", "--scenario=ilbvm-from-4.15-S02-x", "-n", "0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("verdicts", "wanted", "words"),
    [
        (("passed",), None, "no scenario that failed"),
        (("failed", "error"), None, "several scenarios that failed"),
        (("failed", "failed"), "ilbvm", "several scenarios named 'ilbvm'"),
        (("failed",), "S09", "no scenario named 'S09'"),
    ],
)
def test_an_unclear_choice_names_what_there_is(
    tmp_path: Path, verdicts: tuple[str, ...], wanted: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        repeat.choose(report(tmp_path, *verdicts), wanted)
    assert "ilbvm-from-4.15-S01-x" in caught.value.diagnostics()


def test_a_scenario_is_named_by_a_part_of_its_id(tmp_path: Path) -> None:
    assert repeat.choose(report(tmp_path, "passed", "passed"), "s01").id == "ilbvm-from-4.15-S01-x"


def test_the_options_of_the_run_are_taken_over(tmp_path: Path) -> None:
    made = report(tmp_path, "failed", options={"--debian": "11", "--bundle": str(tmp_path), "--to": "4.22"})
    arguments = repeat.arguments_of(made, made.scenarios[0])
    assert {"--debian=11", f"--bundle={tmp_path}"} <= set(arguments)


def test_a_bundle_that_is_gone_is_named(tmp_path: Path) -> None:
    made = report(tmp_path, "failed", options={"--bundle": "/nonexistent/bundle"})
    with pytest.raises(UsageError, match="--bundle /nonexistent/bundle, which is not on this machine"):
        repeat.arguments_of(made, made.scenarios[0])


@pytest.mark.parametrize("case", ["", ".services.up (first patch)", "::services.up (first patch)"])
def test_a_scenario_is_named_by_a_case_of_junit(tmp_path: Path, case: str) -> None:
    made = report(tmp_path, "failed", "failed")
    assert repeat.choose(made, f"ilbvm-from-4.15-S02-x{case}").id == "ilbvm-from-4.15-S02-x"


def test_a_bundle_that_is_named_takes_the_place_of_what_the_run_had(tmp_path: Path) -> None:
    made = report(
        tmp_path, "failed", options={"--source": "/nonexistent/tree", "--script": "ours", "--to": "4.22"}
    )
    with pytest.raises(
        UsageError, match="--source /nonexistent/tree, which is not on this machine"
    ) as caught:
        repeat.arguments_of(made, made.scenarios[0])
    assert "--bundle DIR" in caught.value.diagnostics()
    arguments = repeat.arguments_of(made, made.scenarios[0], tmp_path)
    assert f"--bundle={tmp_path}" in arguments
    assert not [word for word in arguments if word.startswith(("--source", "--script"))]


def test_a_named_bundle_that_is_not_there_is_not_said_to_be_the_runs(tmp_path: Path) -> None:
    made = report(tmp_path, "failed", options={"--bundle": str(tmp_path)})
    with pytest.raises(UsageError, match=r"^--bundle /nonexistent/bundle: no such folder$"):
        repeat.arguments_of(made, made.scenarios[0], Path("/nonexistent/bundle"))
