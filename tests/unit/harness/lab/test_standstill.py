"""A patch that fails stands still before it rolls back; the watcher is the real one, on this machine's processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.lab import standstill
from harness.lab.faults import moments

FAILING = """
echo "2026-01-01T00:00:00+0000 [1] failed in phase restart: service haproxy is failed after the patch" >>LOG
sleep 0.3
touch UNDONE
exit 1
"""
UPSTREAM = FAILING.replace(
    "failed in phase restart: service haproxy is failed after the patch",
    "Failed to start haproxy service. Patch Failed. Retrying again",
)


class Channel:
    """The channel of a command that runs here; scripts of other tests, beside this one, are not met."""

    def __init__(self, command: str, script: str) -> None:
        self.script = script.encode()
        self.process = subprocess.Popen(
            ["bash", "-c", f"exec {command.replace('python3', sys.executable)}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def settimeout(self, _seconds: float | None) -> None:
        """Reads wait for as long as they must."""

    def sendall(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data.replace(b"patch-sysvms.sh", self.script))

    def shutdown_write(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    def recv(self, count: int) -> bytes:
        assert self.process.stdout
        return os.read(self.process.stdout.fileno(), count)

    def recv_stderr(self, count: int) -> bytes:
        assert self.process.stderr
        return os.read(self.process.stderr.fileno(), count)


class Here:
    """A guest that is this machine."""

    def __init__(self, script: str) -> None:
        self.name, self.grace, self.script = "here", 0.0, script
        self.channels: list[Channel] = []

    def channel(self, command: str, _deadline: float) -> Channel:
        self.channels.append(Channel(command, self.script))
        return self.channels[-1]

    def run(self, command: str, check: bool = True) -> None:
        subprocess.run(["bash", "-c", command], check=check)

    def close(self) -> None:
        for channel in self.channels:
            with channel.process:
                assert channel.process.wait(10) in (0, -15)


def name_of(folder: Path) -> str:
    """Return the name of the patch script of a test."""
    return f"patch-{os.getpid()}-{folder.name}.sh"


@pytest.fixture
def vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A VM that is this machine, where no other patch runs."""
    log = tmp_path / "log"
    monkeypatch.setattr(moments, "beside", lambda *_: Here(name_of(tmp_path)))
    monkeypatch.setattr(
        standstill,
        "FAILURE",
        moments.Moment("logged", standstill.FAILURE.argument.replace(moments.LOG, str(log))),
    )
    return SimpleNamespace(guest=Here(name_of(tmp_path)))


def patch(folder: Path, text: str) -> int:
    """Run a patch script."""
    script = folder / name_of(folder)
    script.write_text(text.replace("LOG", str(folder / "log")).replace("UNDONE", str(folder / "undone")))
    return subprocess.run(["bash", script], check=False).returncode


@pytest.mark.parametrize("script", [FAILING, UPSTREAM])
def test_nothing_is_rolled_back_while_somebody_looks(tmp_path: Path, vm: Any, script: str) -> None:
    seen: list[tuple[bool, float]] = []

    def look(_vm: Any) -> None:
        time.sleep(0.5)  # longer than the script waits before its rollback
        seen.append(((tmp_path / "undone").exists(), vm.guest.grace))

    assert standstill.at_failure(vm, lambda: patch(tmp_path, script), look) == 1
    assert seen == [(False, standstill.LONGEST)]
    assert (tmp_path / "undone").exists()
    assert vm.guest.grace == 0


def test_the_patch_goes_on_when_the_look_fails(
    tmp_path: Path, vm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threading.excepthook", lambda _: None)

    def look(_vm: Any) -> None:
        raise OSError("the terminal is gone")

    assert standstill.at_failure(vm, lambda: patch(tmp_path, FAILING), look) == 1
    assert (tmp_path / "undone").exists()


def test_a_patch_that_does_not_fail_is_not_stopped_and_the_watcher_ends_with_it(
    tmp_path: Path, vm: Any
) -> None:
    begun = time.monotonic()
    assert standstill.at_failure(vm, lambda: patch(tmp_path, "echo well >>LOG"), pytest.fail) == 0
    assert time.monotonic() - begun < 10


def test_a_patch_that_ends_with_its_failure_is_said_to_have_ended(
    tmp_path: Path, vm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended() -> int:
        status = patch(tmp_path, FAILING.replace("sleep 0.3", ""))
        time.sleep(0.2)
        return status

    # The process may still be met; then it is stopped, looked at, and goes on.
    looks: list[Any] = []
    assert standstill.at_failure(vm, ended, looks.append) == 1
    assert bool(looks) != ("had ended before it could be stopped" in capsys.readouterr().err)


def test_without_anybody_to_look_the_patch_is_left_alone(tmp_path: Path) -> None:
    assert standstill.at_failure(SimpleNamespace(), lambda: 7, None) == 7  # type: ignore[arg-type]
