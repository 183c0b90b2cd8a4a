"""Arguments are checked before anything starts: by the command and by pytest with the plugin, in the same words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundle.errors import SysvmError
from harness.cli import sysvm
from harness.plugin.options import for_pytest

SCENARIOS = Path(__file__).parents[4] / "harness/scenarios"
WRONG = [
    (["--bundle", "/nosuch"], "--bundle /nosuch: no such folder"),
    (["--network", "nosuch"], "cannot read the network 'nosuch'"),
    (["--network", "vpc"], "'vpc' is declared for a vpcrouter, not for a router"),
    (["--debian", "99"], "unknown Debian release 99"),
    (["--type", "toaster"], "unknown VM type 'toaster'"),
    (["--from", "4.22..4.20"], "invalid range '4.22..4.20'"),
    (["--from", "4.21-foo"], "invalid release '4.21-foo'"),
    (["--to", "9.9"], "unknown release '9.9'"),
    (["--network-backend", "pigeons"], "invalid network backend 'pigeons'"),
    (["--template", "4.15=x", "--mixed"], "no VM runs 4.15 before the patch"),
    (["--template", "nosuch", "--mixed"], "nosuch"),
    (["--scenario", "S01,,"], "invalid --scenario 'S01,,'"),
    (["--scenario", "nosuch"], "no scenario is called 'nosuch'"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_the_command_refuses_before_anything_starts(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    done = CliRunner().invoke(
        sysvm, ["run", "--results", str(tmp_path / "results"), *arguments], standalone_mode=False
    )
    assert isinstance(done.exception, SysvmError), done.output
    assert words in done.exception.diagnostics()
    assert done.exception.exit_status == 2
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(("arguments", "words"), [WRONG[0], WRONG[3]], ids=["bundle", "debian"])
def test_pytest_with_the_plugin_refuses_in_the_same_words(
    arguments: list[str], words: str, workers: str, tmp_path: Path
) -> None:
    command = [
        sys.executable, "-m", "pytest", str(SCENARIOS), "-c", str(SCENARIOS / "pytest.ini"), "-p", "harness.plugin",
        f"--sysvm-results={tmp_path / 'results'}", "-n", workers, *map(for_pytest, arguments),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert words in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()
