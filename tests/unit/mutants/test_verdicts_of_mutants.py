"""What is told of a mutant on a virtual machine: a machine that did not work has judged nothing."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace

import pytest

from bundle.errors import InfrastructureError
from tests.mutants.scenarios.plugin import TOLD, Mutant, ending, load, verdict
from tests.mutants.scenarios.run import ROOT, _tell, command


@pytest.mark.parametrize(
    ("when", "reason", "text", "expected"),
    [
        ("call", None, "", "survived"),
        ("call", AssertionError("x"), "files.kept: 3 paths differ", "killed"),
        ("call", AssertionError("x"), "ports.open: 80 is shut", "otherwise"),
        ("call", InfrastructureError("x"), "files.kept: the boot timed out", "error"),
        ("setup", AssertionError("x"), "files.kept: nobody looked", "error"),
    ],
)
def test_mutant_is_killed_by_the_words_of_its_check_alone(when, reason, text, expected):
    assert verdict(when, reason, text, "files.kept") == expected


@pytest.mark.parametrize("word", ["survived", "otherwise", "error"])
def test_only_mutants_that_were_all_killed_are_a_success(word, capsys):
    killed = {"scenario": "S01", "verdict": "killed", "check": "files.kept", "file": "a", "new": "b"}
    assert _tell(1, [killed]) == 0
    assert _tell(2, [killed, killed | {"verdict": word}]) == 1
    assert _tell(2, [killed]) == 1  # one was not run
    assert "SURVIVED" not in capsys.readouterr().out or word == "survived"


@pytest.mark.parametrize("words", [{}, {"file": "main", "old": "a", "new": "b", "guest": "true"}])
def test_mutant_changes_either_the_script_or_the_vm(words):
    with pytest.raises(ValueError, match="S01: a mutant changes a template or the VM"):
        Mutant("S01", "files.kept", **words)


def test_a_scenario_ends_when_its_mutant_is_killed_and_not_before():
    trial = SimpleNamespace(failures=[], by_host={"files.kept: the host stood still"})
    trial.note = trial.failures.extend
    trial = ending(trial, "files.kept")
    trial.note(["ports.open: 80 is shut", "files.kept: the host stood still"])
    with pytest.raises(pytest.fail.Exception, match="3 paths differ"):
        trial.note(["files.kept: 3 paths differ"])


def test_every_row_is_run(tmp_path):
    rows = load()
    environment = os.environ | {TOLD: str(tmp_path / "told.jsonl"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command(rows, str(tmp_path), "--collect-only"),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    ids = [line for line in done.stdout.splitlines() if "::" in line]
    for row in rows:
        expected = sum(other.scenario == row.scenario for other in rows)
        found = [line for line in ids if f"-{row.scenario}-mutant" in line]
        assert len(found) == expected, (row.scenario, found)
