"""The VM of a scenario that failed, kept and with a shell: of that one only, and while the VM is still there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundle.errors import UsageError
from harness.cli import sysvm
from harness.plugin.options import for_pytest
from harness.plugin.planning import command_line

ROOT = Path(__file__).parents[4]
# The lab is played, for its VM takes a machine; fixtures, hooks and options are the real ones.
CONFTEST = """
from contextlib import contextmanager
from types import SimpleNamespace
import pytest
from harness.plugin import hold
from harness.record import progress

hold.stop_at = lambda vm, moment, command: progress.plain(f"{moment} {vm.name}")
hold.keep_failed = lambda lab, vm: progress.plain(f"kept {vm.name}")

@contextmanager
def system_vm(name, **_):
    yield SimpleNamespace(name=name)
    progress.plain(f"gone {name}")

@pytest.fixture(scope="session")
def lab():
    return SimpleNamespace(
        events=SimpleNamespace(emit=lambda *_, **__: None), image=SimpleNamespace(label=lambda: "x"),
        system_vm=system_vm, spares=SimpleNamespace(expect=lambda: None),
    )
"""
SCENARIOS = '''
import pytest

@pytest.mark.scenario("bad")
def test_bad(system_vm):
    """Fails."""
    pytest.fail("x")

@pytest.mark.scenario("good")
def test_good(system_vm):
    """Holds."""
'''


def test_the_vm_of_a_failed_scenario_is_kept_and_a_shell_is_opened_in_it_before_it_goes(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "scenarios"
    folder.mkdir()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_played.py").write_text(SCENARIOS)
    words = [f"--results={tmp_path / 'results'}", "--shell-on-failure", "--keep", "-n", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *command_line(folder, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line.startswith(("after", "gone", "kept"))]
    assert said == ["kept bad", "after the failure of bad", "gone bad", "gone good"], (
        done.stdout + done.stderr
    )


def test_a_shell_needs_a_terminal(tmp_path: Path) -> None:
    command = ["run", "--shell-on-failure", "--results", str(tmp_path / "results")]
    done = CliRunner().invoke(sysvm, command, standalone_mode=False)
    assert isinstance(done.exception, UsageError)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("word", "taken"),
    [
        ("--type=router", "--sysvm-type=router"),
        ("-n", "-n"),
        ("--tb=short", "--tb=short"),
        ("--mixed", "--sysvm-mixed"),
    ],
)
def test_words_of_the_command_become_options_of_the_plugin(word: str, taken: str) -> None:
    assert for_pytest(word) == taken
