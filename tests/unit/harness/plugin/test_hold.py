"""Looking at a VM: at the failure of its patch, and kept after its scenario."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from bundle.errors import UsageError
from harness.cli import sysvm
from harness.plugin import hold


class Guest:
    """A guest where somebody removes what holds the patch, after three looks."""

    said: ClassVar[list[str]] = []

    def __init__(self, *_words: object) -> None:
        self.said.clear()

    def run(self, command: str, **_options: object) -> Any:
        self.said.append(command)
        gone = self.said.count(f"test -e {hold.HELD}") > 2
        return SimpleNamespace(status=int(gone), stdout=f"<{command}>\n", stderr="")

    def close(self) -> None:
        self.said.append("closed")


@pytest.fixture
def vm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(hold, "SshGuest", Guest)
    monkeypatch.setattr(hold, "_LOOK_EVERY", 0.0)
    return SimpleNamespace(name="S01", guest=SimpleNamespace(host="127.0.0.1", port=4000, key=Path("/k/key")))


def test_without_a_terminal_the_way_in_and_the_way_on_are_said(vm: Any, capsys: Any) -> None:
    hold.at_rollback(vm)
    first, inside, onwards = capsys.readouterr().err.splitlines()
    assert first == "S01 stands still: its patch has failed, and nothing is rolled back yet"
    words = shlex.split(inside.partition(":")[2])
    assert (words[0], words[words.index("-p") + 1], words[-1]) == ("ssh", "4000", "root@127.0.0.1")
    assert f"root@127.0.0.1 rm {hold.HELD} " in onwards
    assert "by itself in 60 minutes" in onwards
    look = f"test -e {hold.HELD}"
    assert Guest.said == [f"touch {hold.HELD}", look, look, look, f"rm -f {hold.HELD}", "closed"]


def test_a_command_shows_what_it_says_and_the_patch_goes_on(vm: Any, capsys: Any) -> None:
    hold.at_rollback(vm, "systemctl status haproxy")
    assert "before the rollback of: 'systemctl status haproxy' ended with status 0" in capsys.readouterr().err
    assert Guest.said == ["systemctl status haproxy", "closed"]


def test_a_kept_vm_says_how_it_is_restored_and_one_that_cannot_be_kept_why(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(
        "harness.kept.snapshots.take_failed", lambda *_: SimpleNamespace(name="failed-router-1")
    )
    hold.keep_failed(None, None)  # type: ignore[arg-type]
    assert "'sysvm vm restore failed-router-1'" in capsys.readouterr().err

    def refuse(*_words: object) -> None:
        raise UsageError("10 VMs are kept already")

    monkeypatch.setattr("harness.kept.snapshots.take_failed", refuse)
    hold.keep_failed(None, None)  # type: ignore[arg-type]
    assert "the VM is not kept: 10 VMs are kept already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "workers", "told"),
    [
        (["--stop-before-rollback", "--workers", "4"], "0", ["--stop-before-rollback"]),
        (["--keep", "--workers", "4"], "4", ["--keep"]),
    ],
)
def test_a_run_that_is_looked_at_has_one_scenario_at_a_time(
    words: list[str], workers: str, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr("harness.cli._judge.judge", lambda arguments, *_, **__: called.append(arguments) or 0)
    done = CliRunner().invoke(sysvm, ["run", *words, "--results", str(tmp_path)], standalone_mode=False)
    assert done.exception is None
    (arguments,) = called
    assert arguments[-2:] == ["-n", workers]
    assert [word for word in arguments if word in ("--keep", "--stop-before-rollback")] == told
