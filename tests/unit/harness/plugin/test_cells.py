"""The matrix of a run: cells that are impossible say why, and scenarios are chosen by the parts of their ids."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bundle import catalogue
from bundle.errors import UsageError
from harness.lab.subject import REFERENCE, Subject
from harness.plugin.cells import Cell, cells, impossible, is_chosen
from harness.plugin.mark import Scenario

FACTS = catalogue.load()


def test_every_type_runs_from_every_release_in_the_order_of_the_releases() -> None:
    made = cells(["router", "ilbvm"], ["4.15", "4.20"], "4.22", REFERENCE)
    assert [str(cell) for cell in made] == [
        "router-from-4.15",
        "ilbvm-from-4.15",
        "router-from-4.20",
        "ilbvm-from-4.20",
    ]
    assert not any(cell.impossible for cell in made)


@pytest.mark.parametrize(
    ("template", "target", "minimum", "words"),
    [
        ("4.22", "4.22", "4.14", "it runs 4.22 already"),
        ("4.22", "4.21", "4.14", "never leads back"),
        ("4.15", "4.16", "4.14", "live patching came with CloudStack 4.17"),
        ("4.15", "4.22", "4.16", "need Python 3 as 'python'"),
        ("4.18", "4.22", "4.20", "asks for a template of 4.20 or newer"),
    ],
)
def test_an_impossible_cell_has_a_reason(template: str, target: str, minimum: str, words: str) -> None:
    assert words in impossible(template, target, minimum, FACTS)


@pytest.mark.parametrize("template", [name for name in FACTS.releases if name != FACTS.default])
def test_the_reference_payload_may_be_patched_onto_every_release(template: str) -> None:
    assert impossible(template, FACTS.default, FACTS.reference_minimum_template, FACTS) == ""


def test_a_bundle_of_ones_own_may_be_another_one_of_the_same_release(tmp_path: Path) -> None:
    assert impossible("4.22", "4.22", "4.14", FACTS, Subject(bundle=tmp_path)) == ""


def test_a_bundle_without_a_manifest_counts_as_the_reference_one(tmp_path: Path) -> None:
    assert cells(["router"], ["4.14"], "4.22", Subject(bundle=tmp_path)) == [Cell("router", "4.14")]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("all", True),
        ("files", True),
        ("default", False),
        ("S08", True),
        ("s08-live", True),
        ("S0", False),
        ("live-config-kept", True),
        ("config", True),
        ("onfig", False),
        ("S01,S08", True),
        ("router-from-4.15-S08-live-config-kept", True),
        ("router-from-4.1", False),
        ("from-4x15", False),
    ],
)
def test_scenarios_are_chosen_by_whole_words_of_their_ids(wanted: str, chosen: bool) -> None:
    assert (
        is_chosen(
            "router-from-4.15-S08-live-config-kept", wanted, Scenario("S08-live-config-kept", tags=("files",))
        )
        is chosen
    )


def test_a_default_scenario_runs_when_nobody_chooses() -> None:
    assert is_chosen("router-from-4.21-live-patch", "default", Scenario("live-patch", default=True))
    with pytest.raises(UsageError, match="such as 'S08'"):
        is_chosen("router-from-4.21-live-patch", "S01,", Scenario("live-patch", default=True))


def collected(*options: str) -> list[str]:
    """Return the ids of the shipped scenarios that pytest collects."""
    folder = Path(__file__).parents[4] / "harness/scenarios"
    command = [
        sys.executable, "-m", "pytest", str(folder), "-c", str(folder / "pytest.ini"), "-p", "harness.plugin",
        "-o", "addopts=", "--collect-only", "-q", *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return re.findall(r"\[(.+)\]", done.stdout)


def test_shipped_scenarios_have_ids_that_can_be_read() -> None:
    found = collected("--sysvm-type", "router,secstorage", "--sysvm-from", "4.15")
    assert "router-from-4.15-S08-live-config-kept" in found
    assert "secstorage-from-4.15-S26-storage-stays-mounted" in found
    assert len(set(found)) == len(found)


def test_the_default_job_is_the_patch_and_its_rollback() -> None:
    assert collected("--sysvm-scenario", "default") == [
        "router-from-4.21-live-patch",
        "router-from-4.21-S01-rollback",
    ]
