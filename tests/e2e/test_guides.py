"""The guides on virtual machines: every block of theirs, command by command, as written, at a terminal."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from bundle import catalogue
from harness.kept import snapshots
from harness.lab import faults
from tests import far_depot, guides

pytestmark = pytest.mark.skipif(
    "SYSVM_GUIDE_VMS" not in os.environ, reason="nox -s guides runs it: half an hour"
)
# What each guide has to have shown by its end.
SHOWN = {
    "guide-release": ("router-from-4.21-live-patch", "router-from-4.21-S01-rollback"),
    "guide-ci": ("ilbvm-from-4.20-live-patch", "ilbvm-from-4.21-live-patch", ": sent", ": fetched"),
    "guide-failed-case": (
        "at the failure, before the rollback of: 'systemctl status haproxy' ended with status",
        "after the failure of the scenario: a shell in",
        "the VM is kept: 'sysvm vm restore failed-router-1'",
        "the live patch failed: patch failed and was rolled back, cannot bring service haproxy up",
        "a: stopped",
    ),
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a person's folder, with the reference bundle and with one whose haproxy does not start."""
    guides.make_home(tmp_path)
    made = guides.build_bundle(tmp_path, "out")
    signature = catalogue.load().release(catalogue.load().default).signature
    faults.build_broken(made, faults.fault("haproxy.configuration"), tmp_path / "bundle", signature)
    return tmp_path


def at_a_terminal(command: list[str], home: Path, more: Mapping[str, str]) -> tuple[int, str]:
    """Run a command at a terminal where somebody leaves every shell that opens; returns status and output."""
    person, program = pty.openpty()
    done = threading.Event()

    def leave() -> None:
        while not done.wait(3):
            os.write(person, b"exit\n")

    said = bytearray()

    def listen() -> None:
        while True:
            try:
                said.extend(os.read(person, 1 << 16))
            except OSError:  # the last of the programs is gone
                return

    threads = [threading.Thread(target=job, daemon=True) for job in (leave, listen)]
    process = subprocess.Popen(
        command, cwd=home, env={**guides.environment(home), "TERM": "dumb", **more},
        stdin=program, stdout=program, stderr=program, start_new_session=True,
    )  # fmt: skip
    os.close(program)
    for thread in threads:
        thread.start()
    try:
        status = process.wait(1800)
    finally:
        done.set()
        for thread in threads:
            thread.join(10)
        os.close(person)
    return status, said.decode(errors="replace")


def follow(line: str, home: Path, depot: far_depot.DepotHost) -> tuple[int, str]:
    """Run a line of a guide as it is written; returns status and output."""
    if far_depot.NAME in line:
        return at_a_terminal(depot.command(line), home, depot.environment(line))
    return at_a_terminal(["bash", "-euc", line], home, {})


@pytest.fixture
def no_snapshots() -> None:
    """Refuse to mix a person's snapshots with those that the guides take."""
    there = [one.name for one in snapshots.every() if one.vm in ("failed-router", "a")]
    assert not there, f"'sysvm vm forget {' '.join(there)}' first"


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("nothing_left", "no_snapshots")
@pytest.mark.parametrize("guide", guides.GUIDES)
def test_a_guide_can_be_followed_on_virtual_machines(guide: str, home: Path) -> None:
    if guide == "guide-release":
        shutil.rmtree(home / "out")
    told = ""
    lines = [line for _, text in guides.blocks(guide) for line in text.replace("\\\n", " ").splitlines()]
    with far_depot.serving(home) as depot:
        for line in lines:
            status, said = follow(line, home, depot)
            told += f"$ {line}\n{said}\n"
            # The bundle of the failed case fails again; everything else has to go well.
            expected = (0, 1) if line.startswith(("sysvm repro ", "sysvm patch ")) else (0,)
            assert status in expected, told
            assert "Traceback" not in said, told
    missing = [words for words in SHOWN[guide] if words not in told]
    assert not missing, told
