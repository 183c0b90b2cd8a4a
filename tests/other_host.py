"""A second host on this one: commands that run there find a libvirt, a run folder and devices of their own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.processes import command_lines

ENTER = "mount -t tmpfs -o mode=0755 none /run/libvirt && echo ready && exec cat"


class OtherHost:
    """Runs commands where another libvirt is.

    Attributes:
        state: its run folder.
        environment: what its commands have in their environment beside ours.
    """

    def __init__(self, state: Path, folder: Path) -> None:
        self.state, self._folder = state, folder
        self.environment: dict[str, str] = {}
        self._runs: set[str] = set()
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> OtherHost:
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        running = [process for process in self._started if process.poll() is None]
        for process in running:  # a test that has failed waits for nothing
            process.kill()
            process.communicate()
        if running:  # the next command clears up, and ends the daemon
            self.sysvm("vm", "list")
        self._holder.communicate()
        shutil.rmtree(self.state, ignore_errors=True)

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", f"--wd={self._folder}", "--", *command]

    def put_in_place(self, there: str, path: str) -> None:
        """Let a path be another file or device on that host."""
        subprocess.run(self._inside("mount", "--bind", there, path), check=True)

    def run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        """Run a program there, as root, and return how it ended."""
        return subprocess.run(self._inside(*command), check=False, capture_output=True)

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command as a person does."""
        process = subprocess.Popen(
            self._inside(sys.executable, "-c", "from harness.cli import main; main()", *arguments),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "SYSVM_STATE": str(self.state), **self.environment},
        )  # fmt: skip
        self._started.append(process)
        return process

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
