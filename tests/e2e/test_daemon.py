"""libvirt's daemon vanishes: machines outlive it, and whoever was talking to it says so in one line.

The daemon that is killed here has a mount namespace and a state folder of its own, as if on another host: nobody else's
machines are touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import wait
from tests.processes import command_lines

ENTER = "mount -t tmpfs -o mode=0755 none /run/libvirt && echo ready && exec cat"


class OtherHost:
    """Runs commands where another libvirt is."""

    def __init__(self, state: Path, folder: Path) -> None:
        self.state, self._folder = state, folder
        self._runs: set[str] = set()

    def __enter__(self) -> OtherHost:
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()
        shutil.rmtree(self.state, ignore_errors=True)

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command as a person does."""
        enter = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", f"--wd={self._folder}", "--"]
        return subprocess.Popen(
            [*enter, sys.executable, "-c", "from harness.cli import main; main()", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "SYSVM_STATE": str(self.state)},
        )  # fmt: skip

    def sysvm(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command; returns status, standard output and standard error."""
        process = self.popen(*arguments)
        output, errors = process.communicate(timeout=300)
        return process.returncode, output, errors

    def daemon(self) -> int:
        """Return the process id of libvirtd, or 0."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.state / "libvirt" / "libvirtd.pid").read_text())
        return 0

    def kill_daemon(self) -> None:
        """End libvirtd as a crash would."""
        os.kill(self.daemon(), signal.SIGKILL)

    def guests(self) -> set[str]:
        """Return the names of the guests of this host's runs whose QEMU is there."""
        self._runs |= {path.name for path in (self.state / "runs").glob("*")}
        names = (re.search(r"guest=(sysvm-([^-,]+)-[^,]+),", line) for _, line in command_lines())
        return {name[1] for name in names if name and name[2] in self._runs}


@pytest.fixture
def other_host(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root has a daemon of its own")
    state = Path(f"/run/sysvm-other-{os.getpid()}")
    with OtherHost(state, tmp_path) as host:
        yield host


def test_engine_finds_a_kept_vm_again_when_the_daemon_had_crashed(lab, other_host):
    status, _, errors = other_host.sysvm("vm", "start", "--name", "stays")
    assert status == 0, errors
    try:
        other_host.kill_daemon()
        assert other_host.guests()
        assert other_host.sysvm("vm", "exec", "stays", "echo there") == (0, "there\n", "")
        status, listed, errors = other_host.sysvm("vm", "list")
        assert (status, errors) == (0, "")
        assert re.search(r"stays.*running", listed)
    finally:
        status, _, errors = other_host.sysvm("vm", "stop", "stays")
    assert (status, errors) == (0, "")
    assert not other_host.guests()


def test_engine_says_in_one_line_that_the_daemon_has_vanished(lab, other_host):
    run = other_host.popen("run", "--scenario", "live-patch", "--workers", "0")
    wait.until(lambda: other_host.guests() and other_host.daemon(), "a machine of the run", 120.0)
    other_host.kill_daemon()
    output, errors = run.communicate(timeout=300)
    assert run.returncode in (1, 3), output
    assert "Traceback" not in errors
    assert "libvirt" in output + errors
    assert other_host.sysvm("vm", "list")[0] == 0
    assert not other_host.guests()
