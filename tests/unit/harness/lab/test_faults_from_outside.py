"""Faults from outside: each by a name, the watcher inside the guest, stand-ins for programs, and lost answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bundle.errors import Exit, InfrastructureError, UsageError
from harness.guest.connection import ConnectionLost, SshCommandResult
from harness.guest.transfer import LineConditions
from harness.kvmagent import patch
from harness.kvmagent.patch import BundleFiles
from harness.lab import faults
from harness.lab.faults import disk, network, programs, uploads
from harness.lab.faults.guest import watch


def test_each_fault_has_a_name_a_line_and_no_twin() -> None:
    rows = faults.outsides()
    assert len({row.name for row in rows}) == len(rows) >= 15
    assert all("." in row.name and row.what and row.begin for row in rows)


def test_an_unknown_fault_is_one_line_that_names_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        faults.begin("no.such", SimpleNamespace())  # type: ignore[arg-type]
    assert "power.cut" in caught.value.diagnostics()


@pytest.fixture
def script(tmp_path: Any) -> Any:
    """A stand-in of a patch script that is under way: one process a tenth of a second, and a log."""
    path = tmp_path / f"patch-{os.getpid()}-{tmp_path.name}.sh"  # other tests, beside this one, have theirs
    log = tmp_path / "log"
    path.write_text(
        f"#!/bin/bash\nfor i in 1 2 3 4 5 6 7 8; do sleep 0.1; echo step $i >>{log}; done\nsleep 30\n"
    )
    return path


def _watched(script: Any, *arguments: str) -> tuple[dict[str, Any], subprocess.Popen[bytes]]:
    # By its path: whatever else runs a patch script on this machine is not to be hit.
    watcher = subprocess.Popen(
        [sys.executable, "-u", watch.__file__, *arguments, str(script)], stdout=subprocess.PIPE
    )
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == f"watching {watcher.pid}\n".encode()
    patch = subprocess.Popen(["bash", str(script)])
    try:
        told = json.loads(watcher.communicate(timeout=60)[0])
    finally:
        if patch.poll() is None and "CONT" in arguments:
            patch.kill()
            patch.wait()
    return told, patch


@pytest.mark.parametrize("moment", ["logged", "process", "changed", "child"])
def test_a_moment_is_met_and_the_patch_is_killed(script: Any, moment: str) -> None:
    log = script.parent / "log"
    argument = {"logged": f"{log} step 2", "process": "3", "changed": str(log), "child": "sleep 30"}[moment]
    told, patch = _watched(script, moment, argument, "all", "KILL", "30")
    assert told["met"]
    assert any(script.name in line for line in told["done"])
    assert patch.wait(10) == -9


def test_a_moment_that_never_comes_is_told_and_nothing_is_done(script: Any) -> None:
    told, patch = _watched(script, "logged", f"{script.parent / 'log'} nothing", "all", "CONT", "0.5")
    assert told == {"met": False, "done": []}
    assert patch.returncode == -9


def test_a_line_that_was_there_before_is_no_moment(script: Any) -> None:
    (script.parent / "log").write_text("step 7\n")
    begun = time.monotonic()
    told, _ = _watched(script, "logged", f"{script.parent / 'log'} step 7", "all", "KILL", "30")
    assert told["met"]
    assert time.monotonic() - begun > 0.5


def test_only_the_program_that_is_named_is_hit(script: Any) -> None:
    told, patch = _watched(script, "child", "sleep 30", "child:sleep 30", "KILL", "30")
    assert told["done"] == ["sleep 30"]
    assert patch.wait(10) != -9


def test_a_child_is_awaited_when_there_is_none_at_the_moment(script: Any) -> None:
    """What was seen: a random moment between two children, and S47 with nothing that could hang."""
    script.write_text("for ((i = 0; i < 300000; i++)); do :; done\nsleep 30\n")
    told, patch = _watched(script, "process", "0", "child", "KILL", "30")
    assert told == {"met": True, "done": ["sleep 30"]}
    patch.wait(10)


def test_a_patch_without_a_child_is_told_to_have_none(script: Any) -> None:
    script.write_text("for ((i = 0; i < 30000000; i++)); do :; done\n")
    told, patch = _watched(script, "process", "0", "child", "KILL", "1")
    patch.kill()
    patch.wait(10)
    assert told == {"met": True, "done": []}


def test_a_patch_script_of_somebody_else_is_left_alone(script: Any) -> None:
    """What was seen: tests of this module killed the patches of all other tests that ran on the machine."""
    other = script.parent / "other" / script.name
    other.parent.mkdir()
    other.write_text("sleep 30\n")
    with subprocess.Popen(["bash", str(other)]) as beside:
        told, patch = _watched(script, "logged", f"{script.parent / 'log'} step 1", "all", "KILL", "30")
        assert patch.wait(10) == -9
        assert beside.poll() is None
        assert not any(str(other) in line for line in told["done"])
        beside.kill()


def _stand_in(tmp_path: Any, deed: Any, **options: Any) -> Any:
    """Install a stand-in of date in a folder of ours; returns what calls it."""
    commands = programs._install(
        ["date"], deed, options.get("words", "*"), options.get("first", 1), options.get("last", 9)
    )
    front = tmp_path / "front"
    count = tmp_path / "count"
    commands = commands.replace(programs._FRONT, str(front)).replace(programs._COUNT, str(count))
    subprocess.run(["bash", "-c", commands], check=True)

    def call(*words: str) -> tuple[int, str, str]:
        path = f"{front}:{os.environ['PATH']}"
        done = subprocess.run(
            ["date", *words], env={"PATH": path}, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return call


def test_a_program_fails_dies_lies_or_talks(tmp_path: Any) -> None:
    assert _stand_in(tmp_path / "1", "fails")("+%Y")[0] == 1
    assert _stand_in(tmp_path / "2", "dies")("+%Y")[0] == -9
    assert _stand_in(tmp_path / "3", "lies")("+%Y") == (0, "", "")
    status, said, noise = _stand_in(tmp_path / "4", "talks")("+x")
    assert (status, said.splitlines()[-1]) == (0, "x")
    assert "date is noisy" in noise


def test_other_words_and_other_calls_reach_the_program(tmp_path: Any) -> None:
    call = _stand_in(tmp_path, "fails", words="+bad*", first=2, last=2)
    assert call("+good") == (0, "good\n", "")
    assert [call("+bad")[0] for _ in range(3)] == [0, 1, 0]


def test_of_calls_that_come_at_once_just_one_is_the_first(tmp_path: Any) -> None:
    call = _stand_in(tmp_path, "fails", last=1)
    with ThreadPoolExecutor(12) as pool:
        statuses = [status for status, _, _ in pool.map(call, ["+x"] * 36)]
    assert sorted(statuses) == [0] * 35 + [1]


class Channel:
    """A channel that has some bytes to say."""

    eof_received = closed = False

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.ends = os.pipe()
        os.write(self.ends[1], b"x")

    def fileno(self) -> int:
        return self.ends[0]

    def recv_ready(self) -> bool:
        return bool(self.said)

    def recv_stderr_ready(self) -> bool:
        return False

    def recv(self, count: int) -> bytes:
        taken, self.said = self.said[:count], self.said[count:]
        return taken


class Vm:
    """A guest that answers the patch script with one line."""

    name = "vm"

    def __init__(self) -> None:
        self.closed = 0
        self.lines: list[LineConditions] = []

    def channel(self, _command: str, _deadline: float) -> Channel:
        return Channel(b"version:abc\n")

    def close(self) -> None:
        self.closed += 1

    def put(self, _data: bytes, _path: str, _mode: int = 0o644, line: LineConditions | None = None) -> None:
        if line is not None:
            self.lines.append(line)

    def run(self, command: str, **_options: object) -> SshCommandResult:
        return SshCommandResult(command, 0, "ran", "", 0.1)


@pytest.mark.parametrize("after", [0, 4])
def test_an_answer_is_cut_off_and_everything_else_is_answered(after: int) -> None:
    vm: Any = Vm()
    guest = network.CutOff(vm, after, "patch-sysvms.sh")
    assert guest.run("true").stdout == "ran"
    with pytest.raises(ConnectionLost, match=f"after {after} bytes"):
        guest.run("/var/cache/cloud/patch-sysvms.sh")
    assert vm.closed == 1


def test_a_fault_lasts_as_long_as_the_script_runs() -> None:
    seen: list[str] = []

    class Begun:
        def __enter__(self) -> None:
            seen.append("begun")

        def __exit__(self, *_: object) -> None:
            seen.append("ended")

    vm: Any = Vm()
    guest = uploads.Landed(vm, Begun())  # type: ignore[arg-type]
    guest.put(b"", "/x")
    guest.run("true")
    assert seen == []
    guest.run("/var/cache/cloud/patch-sysvms.sh")
    assert seen == ["begun", "ended"]


@pytest.mark.parametrize("when", ["begin", "end"])
def test_a_fault_that_does_not_begin_or_end_is_no_answer_of_the_patch(when: str) -> None:
    @contextmanager
    def begun() -> Iterator[None]:
        if when == "begin":
            raise InfrastructureError("QEMU refuses it")
        yield
        raise InfrastructureError("QEMU refuses it")

    guest: Any = uploads.Landed(Vm(), begun())  # type: ignore[arg-type]
    files = BundleFiles(Path("b"), dict.fromkeys(patch.FILES, b"x"), "a" * 128)
    guest.put, run = (lambda *_: None), guest.run
    told = SshCommandResult("", 0, f"Release 4.21.0&{'0' * 32}\n", "", 0.1)
    guest.run = lambda command, **more: told if command.endswith("version.sh") else run(command, **more)
    with pytest.raises(uploads.FaultFailed, match=f"does not {when}: QEMU refuses it") as raised:
        patch.patch(guest, files)
    assert raised.value.exit_status == Exit.INFRASTRUCTURE


def test_what_the_guest_does_wrong_within_a_fault_is_an_answer() -> None:
    class Gone(Vm):
        def run(self, command: str, **_options: object) -> SshCommandResult:
            raise ConnectionLost("cut")

    with pytest.raises(ConnectionLost):
        uploads.Landed(Gone(), nullcontext()).run("/var/cache/cloud/patch-sysvms.sh")  # type: ignore[arg-type]


@pytest.mark.parametrize("backed", [True, False])
def test_a_disk_that_fails_keeps_what_lies_behind_it(backed: bool) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    image = {"filename": "/run/o", **({"backing-image": {"filename": "/golden/d"}} if backed else {})}
    nodes = [("o-format", "qcow2", "/run/o"), ("o-file", "file", "/run/o"), ("d-format", "qcow2", "/golden/d"),
             ("d-file", "file", "/golden/d")]  # fmt: skip

    def monitor(command: str, **arguments: Any) -> Any:
        told.append((command, arguments))
        if command == "query-block":
            return [{"device": "cd"}, {"inserted": {"node-name": "o-format", "image": image}}]
        return [{"node-name": name, "drv": kind, "file": file} for name, kind, file in nodes]

    vm: Any = SimpleNamespace(machine=SimpleNamespace(monitor=monitor))
    with disk.errors(vm):
        added, reopened = (arguments for command, arguments in told if command.startswith("blockdev"))
    assert (added["driver"], added["image"]) == ("blkdebug", "o-file")
    (options,) = reopened["options"]
    assert (options["node-name"], options["file"]) == ("o-format", "sysvm-errors")
    assert options.get("backing") == ("d-format" if backed else None)
