"""The plugin beside other people's: installed from the wheel, it takes nothing of a project that does not use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
# Options, fixtures and a mark that a project may have had before ours was installed beside it.
CONFTEST = """
import pytest

WORDS = ("type", "from", "to", "debian", "network", "network-backend", "scenario", "bundle", "source", "script",
         "from-bundle", "template", "mixed", "hold", "results", "junit", "workers")

def pytest_addoption(parser):
    for word in WORDS:
        parser.addoption(f"--{word}", default=f"own {word}")

class Failures:
    pass

@pytest.fixture
def live_patch():
    return Failures()

@pytest.fixture
def network(request):
    return request.config.getoption("--network")
"""
TEST = """
def test_own_option(network, request):
    assert network == "own wires"
    assert request.config.getoption("--type") == "own type"

def test_own_fixture(live_patch):
    assert not hasattr(live_patch, "failures")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel is installed."""
    made = tmp_path_factory.mktemp("wheel")
    for command in (
        ["wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(made), str(ROOT)],
        ["install", "-q", "--no-deps", "--target", str(made / "site"), "--no-index", "--find-links", str(made),
         "sysvm-livepatch"],
    ):  # fmt: skip
        subprocess.run([sys.executable, "-m", "pip", *command], check=True, capture_output=True)
    return made / "site"


def test_a_project_with_options_of_the_same_names_is_left_alone(site: Path, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--network", "own wires", "--trace-config"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert str(site / "harness/plugin/__init__.py") in done.stdout
    assert not (tmp_path / "results").exists()


def test_every_option_of_the_plugin_says_whose_it_is(site: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    ours = done.stdout.split("live patches of system VMs:")[1].split("\n\n")[0]
    words = [line.split()[0] for line in ours.splitlines() if line.startswith("  --")]
    assert len(words) > 15
    assert [word for word in words if not word.startswith("--sysvm-")] == []
