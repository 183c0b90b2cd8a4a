"""What a CI gate rests on: a machine's failure is tried again, a wrong answer never; a known failure is marked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bundle.errors import UsageError
from harness.report import known

ROOT = Path(__file__).parents[4]
PLAYING = Path(__file__).parent / "playing.py"
SCENARIOS = '''
from pathlib import Path
import pytest
from bundle.errors import InfrastructureError
from harness.guest.connection import GuestLockedUp
from harness.plugin.choosing import scenario_id
from harness.plugin.session import run_of

HERE = Path(__file__).parent

def count(name):
    with (HERE / name).open("a") as file:
        file.write("x")
    return len((HERE / name).read_text())

class Judged:
    failures = ()

@pytest.fixture
def live_patch(request):
    def fail(*names):
        for name in names:
            run_of(request.config).events.emit(
                "check", scenario=scenario_id(request.node), name=name, verdict="failed", reason="haproxy is old")
        judged.failures = [f"{name}: haproxy is old" for name in names]
    judged = Judged()
    judged.fail = fail
    return judged

@pytest.mark.scenario("flaky", default=True)
def test_flaky():
    """The machine fails once."""
    if count("flaky") == 1:
        raise InfrastructureError("libvirt went away")

@pytest.mark.scenario("hopeless")
def test_hopeless():
    """The machine always fails."""
    count("hopeless")
    raise InfrastructureError("libvirt went away")

@pytest.mark.scenario("frozen")
def test_frozen():
    """The guest's kernel stands still the first time."""
    if count("frozen") == 1:
        raise GuestLockedUp("r-1-VM: the kernel of the guest has stood still for 100 s")

@pytest.mark.scenario("for-ever")
def test_frozen_for_ever():
    """It stands still each time."""
    count("for-ever")
    raise GuestLockedUp("r-1-VM: the kernel of the guest has stood still for 100 s")

@pytest.mark.scenario("wrong")
def test_wrong():
    """A wrong answer."""
    count("wrong")
    pytest.fail("services.up: haproxy is down")

@pytest.mark.scenario("expected")
def test_expected(live_patch):
    """Fails as it is known to."""
    live_patch.fail("services.renewed")

@pytest.mark.scenario("more")
def test_more(live_patch):
    """Fails as it is known to, and otherwise."""
    live_patch.fail("services.renewed", "services.up")
'''
ROW = '[[known]]\ncheck = "services.renewed"\nscenario = "router-*"\nreason = "issue 1234"\nuntil = {}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scenarios = tmp_path / "scenarios"
    scenarios.mkdir()
    (scenarios / "test_played.py").write_text(SCENARIOS)
    return scenarios


def play(folder: Path, *arguments: str) -> tuple[int, str, Path]:
    """Run scenarios; return the status, what was said, and the folder of the run."""
    results = folder.parent / "results"
    done = subprocess.run(
        [sys.executable, str(PLAYING), str(folder), "run", f"--results={results}", "--workers", "0", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr, results / "latest"


def document(run: Path) -> dict[str, object]:
    return json.loads((run / "run.json").read_text())


def test_what_the_machine_failed_is_made_again_in_the_same_run(folder: Path) -> None:
    status, said, run = play(folder, "--scenario", "flaky", "--retry-infrastructure", "2")
    assert status == 0, said
    assert "repeating 1 scenarios that the machine failed (1 of 2)" in said
    (row,) = document(run)["scenarios"]
    assert (row["verdict"], row["retried"]) == ("passed", ["libvirt went away"])
    assert len(list(run.parent.glob("2*"))) == 1


def test_without_the_option_the_machines_failure_is_an_error_and_ends_with_3(folder: Path) -> None:
    status, said, run = play(folder, "--scenario", "flaky")
    assert status == 3
    assert ": error in " in said
    (row,) = document(run)["scenarios"]
    assert (row["verdict"], document(run)["verdict"]) == ("error", "error")


def test_a_guest_whose_kernel_stood_still_gets_another_attempt_unasked_and_the_report_says_so(
    folder: Path,
) -> None:
    status, said, run = play(folder, "--scenario", "frozen")
    assert status == 0, said
    (row,) = document(run)["scenarios"]
    assert row["verdict"] == "passed"
    assert row["retried"] == ["r-1-VM: the kernel of the guest has stood still for 100 s"]


def test_a_kernel_that_stands_still_again_is_an_error_and_nothing_else_is_repeated_with_it(
    folder: Path,
) -> None:
    status, said, _ = play(folder, "--scenario", "for-ever,flaky")
    assert status == 3, said
    assert (folder / "for-ever").read_text() == "xx"
    assert (folder / "flaky").read_text() == "x"


def test_a_machine_that_fails_again_and_again_ends_with_3(folder: Path) -> None:
    status, said, _ = play(folder, "--scenario", "hopeless", "--retry-infrastructure", "2")
    assert status == 3
    assert (folder / "hopeless").read_text() == "xxx"
    assert "libvirt went away" in said


def test_a_wrong_answer_is_asked_once(folder: Path) -> None:
    status, _, run = play(folder, "--scenario", "wrong,flaky", "--retry-infrastructure", "3")
    assert status == 1
    assert (folder / "wrong").read_text() == "x"
    verdicts = {row["id"].rpartition("-")[2]: row["verdict"] for row in document(run)["scenarios"]}
    assert verdicts == {"wrong": "failed", "flaky": "passed"}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_known_failure_is_marked_and_fails_nothing(folder: Path, tmp_path: Path, workers: str) -> None:
    (tmp_path / "known.toml").write_text(ROW.format("9999-12-31"))
    options = ("--known-failures", str(tmp_path / "known.toml"), "--workers", workers)
    status, said, run = play(folder, "--scenario", "expected", *options)
    assert status == 0, said
    assert "known failures: services.renewed" in said
    (row,) = document(run)["scenarios"]
    assert row["checks"][0]["verdict"] == "failed"
    assert row["checks"][0]["known"] == "known until 9999-12-31: issue 1234"
    case = ET.parse(run / "junit.xml").find(".//testcase[@name='services.renewed']/skipped")
    assert case is not None
    assert case.get("message") == "known until 9999-12-31: issue 1234"


def test_another_failure_beside_a_known_one_fails(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "known.toml").write_text(ROW.format("9999-12-31"))
    status, said, _ = play(folder, "--scenario", "more", "--known-failures", str(tmp_path / "known.toml"))
    assert status == 1
    assert "services.up: haproxy is old" in said


def test_a_row_whose_day_has_passed_fails_the_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "known.toml").write_text(ROW.format("2001-01-01"))
    status, said, _ = play(folder, "--scenario", "expected", "--known-failures", str(tmp_path / "known.toml"))
    assert status == 1
    assert "the run's own checks" in said
    assert "ended on 2001-01-01" in (folder.parent / "results/latest/run.json").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[known]]\ncheck = 'a'\n", "row 1: expected check, reason, scenario, until"),
        (ROW.format("'soon'"), "'until' is a date"),
        ("known = 7\n", "nothing but rows"),
        ("[", "is no list of known failures"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "known.toml").write_text(text)
    with pytest.raises(UsageError) as refused:
        known.read(tmp_path / "known.toml")
    assert words in str(refused.value)


def test_a_list_that_is_not_there_stops_the_run_before_it_begins(folder: Path, tmp_path: Path) -> None:
    status, said, run = play(folder, "--known-failures", str(tmp_path / "nosuch"))
    assert status == 2
    assert "cannot read the known failures" in said
    assert not run.exists()
