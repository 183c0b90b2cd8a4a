"""``sysvm run`` around its scenarios: what a person sees, what remains when the person leaves or stops it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from harness.cli._judge import _Teller

PLAYING = Path(__file__).with_name("playing.py")
ROOT = Path(__file__).parents[4]
SCENARIOS = '''
import time
from pathlib import Path
import pytest
from harness.record import progress

HERE = Path(__file__).parent

@pytest.fixture
def machine():
    yield
    HERE.joinpath("torn down").touch()

@pytest.mark.scenario("slow")
def test_slow(machine):
    """Takes a minute."""
    HERE.joinpath("started").touch()
    time.sleep(60)

@pytest.mark.scenario("good", default=True)
def test_good():
    """Holds."""
    progress.say("working")

@pytest.mark.scenario("bad", default=True)
def test_bad():
    """Does not."""
    pytest.fail("services.up: haproxy \\x1b[2J is down", pytrace=False)

@pytest.mark.scenario("none", default=True, types=("ilbvm",), why="only balancers balance")
def test_none():
    """Is for others."""
'''


@pytest.fixture
def folder(tmp_path):
    scenarios = tmp_path / "scenarios"
    scenarios.mkdir()
    (scenarios / "test_played.py").write_text(SCENARIOS)
    return scenarios


def command(folder, *arguments):
    results = f"--results={folder.parent / 'results'}"
    return [sys.executable, str(PLAYING), str(folder), "run", results, *arguments]


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def play(folder, *arguments, **options):
    return subprocess.run(
        command(folder, *arguments), env=environment(), text=True, capture_output=True, check=False, timeout=120,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("workers", ["0", "2"])
def test_nothing_chosen_is_a_mistake_whatever_the_number_of_workers(folder, workers):
    done = play(folder, "--scenario", "nosuch", "--workers", workers)
    assert done.returncode == 2
    assert done.stderr == "sysvm: no scenario is called 'nosuch' ('sysvm scenarios' lists them)\n"
    assert not (folder.parent / "results").exists()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_each_scenario_that_ends_is_one_line_with_cell_verdict_and_count(folder, workers):
    done = play(folder, "--workers", workers)
    assert done.returncode == 1, done.stderr
    lines = re.findall(
        r"^\[(\d)/3(?:, \d+ s left)?\] (router-from-[\d.]+-\w+): (\w+) in", done.stderr, flags=re.MULTILINE
    )
    assert [count for count, _, _ in lines] == ["1", "2", "3"]
    assert {name.rpartition("-")[2]: verdict for _, name, verdict in lines} == {
        "good": "passed", "bad": "failed", "none": "skipped",
    }  # fmt: skip
    assert re.search(r"^\[router-from-[\d.]+-good\] working$", done.stderr, flags=re.MULTILINE)
    assert "services.up: haproxy \\x1b[2J is down" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("done", "now", "said"),
    [(1, 130.0, ", 60 s left"), (1, 430.0, ", 11 min left"), (3, 430.0, "")],
)
def test_the_time_that_is_left_follows_from_what_was_done(done, now, said):
    assert _Teller(total=3, done=done, begun=100.0).left(now) == said


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_person_who_stops_a_run_gets_its_reports_and_nothing_is_left(folder, workers):
    process = subprocess.Popen(
        command(folder, "--scenario", "slow,good", "--workers", workers), env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (folder / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "sysvm: interrupted" in err
    page = Path(re.search(r"report: (.+)", out)[1])
    for name in ("report.html", "junit.xml", "run.json"):
        assert page.with_name(name).stat().st_size > 0
    report = json.loads(page.with_name("run.json").read_text())
    assert "interrupted" in report["reason"]
    assert report["verdict"] == "error"
    assert (folder / "torn down").exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_reader_who_leaves_changes_no_verdict(folder, workers):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        command(folder, "--scenario", "good", "--workers", workers), env=environment(), check=False, timeout=120,
        stdout=write, stderr=write,
    )  # fmt: skip
    os.close(write)
    report = json.loads((folder.parent / "results/latest/run.json").read_text())
    assert (process.returncode, report["verdict"]) == (0, "passed")


def test_the_junit_file_is_where_a_person_asks_for_it(folder, tmp_path):
    assert play(folder, "--scenario", "good", "--junit", str(tmp_path / "j.xml")).returncode == 0
    suite = ET.parse(tmp_path / "j.xml").getroot().find("testsuite")
    assert suite.find("testcase").get("file") == "test_played.py"
    refused = play(folder, "--junit", str(tmp_path / "no-such" / "j.xml"))
    assert refused.returncode == 2
    assert "no-such" in refused.stderr
