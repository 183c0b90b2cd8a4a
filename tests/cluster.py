"""A cluster on one machine: hosts in network namespaces, each with state, cache and libvirt of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
STAND_INS = ROOT / "tests/data/cluster"
PORT = 8786
_SYSVM = "from harness.cli import main; main()"
# Runs the scenarios of a folder as ``sysvm run`` does those of the program.
RUN = """
import sys
from pathlib import Path
from harness.cli._judge import judge
sys.exit(judge(sys.argv[2:], False, folder=Path(sys.argv[1])))
"""
# The other mounts of the machine are the same for all.
_OWN_LIBVIRT = 'mkdir -p /run/libvirt && mount -t tmpfs -o mode=0755 none /run/libvirt && exec "$@"'


def wait_until(what: str, holds, seconds: float = 180.0):
    """Return what a question answers as soon as that is true; fails after so many seconds."""
    end = time.monotonic() + seconds
    while not (answer := holds()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return answer


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass
class Host:
    """One host: a network namespace, and folders."""

    name: str
    namespace: str
    address: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    cores: str = ""

    def popen(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Start Python there; its output goes to pipes."""
        pinned = ["taskset", "-c", self.cores] if self.cores else []
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, "sh", "-c", _OWN_LIBVIRT, "sh",
             *pinned, sys.executable, "-c", code, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SYSVM_STATE": str(self.state),
                 "SYSVM_CACHE": str(self.cache), **self.environment},
        )  # fmt: skip

    @property
    def state(self) -> Path:
        return self.folder / "s"

    @property
    def cache(self) -> Path:
        return self.folder / "c"

    def pids(self) -> list[int]:
        """Return the processes that are there."""
        told = subprocess.run(
            ["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False
        )
        return [int(word) for word in told.stdout.split()]

    def die(self) -> None:
        """Let it lose its power: all that runs there is gone at once."""
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def leftovers(self) -> list[str]:
        """Return what is there of runs and seats: folders of runs but that of the worker itself, and files of seats."""
        runs = [str(path) for path in (self.state / "runs").glob("*")]
        seats = [str(path) for path in self.cache.glob("work/*/lab/seat-*")]
        return [*seats, *(runs if len(runs) > 1 else [])]


class Cluster:
    """A scheduler and hosts; use it as a context."""

    def __init__(self, folder: Path, names: Sequence[str], net: str = "10.203.7") -> None:
        self._tag = f"sc{os.getpid() % 100000}"
        self._net = net
        self.folder = folder
        self.certificates = folder / "tls"
        self.middle = self._host("m", 1)
        self.hosts = {name: self._host(name, number) for number, name in enumerate(names, 2)}
        self.address = f"tcp://{self.middle.address}:{PORT}"
        self.started: dict[str, subprocess.Popen[str]] = {}

    def _host(self, name: str, number: int) -> Host:
        place = self.folder / name
        return Host(name, f"{self._tag}-{name}", f"{self._net}.{number}", place)

    def __enter__(self) -> Cluster:
        with contextlib.ExitStack() as stack:
            stack.callback(self._clear)
            self._lay()
            done = subprocess.run(
                [sys.executable, "-c", _SYSVM, "worker", "--init", str(self.certificates)],
                capture_output=True, text=True, check=False, cwd=ROOT,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            for host in (self.middle, *self.hosts.values()):
                host.environment["SYSVM_CERTIFICATES"] = str(self.certificates)
            self._begin("scheduler", self.middle, "--scheduler", self.address)
            self._await("scheduler")
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def _lay(self) -> None:
        middle = self.middle.namespace
        for host in (self.middle, *self.hosts.values()):
            host.folder.mkdir(parents=True)
            _ip("netns", "add", host.namespace)
            _ip("-n", host.namespace, "link", "set", "lo", "up")
        _ip("-n", middle, "link", "add", "bridge0", "type", "bridge")
        _ip("-n", middle, "addr", "add", f"{self.middle.address}/24", "dev", "bridge0")
        _ip("-n", middle, "link", "set", "bridge0", "up")
        for host in self.hosts.values():
            _ip(
                "-n",
                middle,
                "link",
                "add",
                host.name,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                host.namespace,
            )
            _ip("-n", middle, "link", "set", host.name, "master", "bridge0", "up")
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")

    def _begin(self, name: str, host: Host, *words: str) -> None:
        process = host.popen(_SYSVM, "worker", *words, "--json")
        self.started[name] = process

    def _await(self, name: str) -> None:
        process, lines = self.started[name], []
        while (line := process.stdout.readline()) and line.rstrip() != "}":
            lines.append(line)
        assert line, f"{name} did not start: {process.stderr.read()}"
        assert json.loads("".join([*lines, line]))["name"] == name

    def start(self, *names: str, slots: int = 1) -> None:
        """Let hosts take part."""
        for name in names:
            self._begin(name, self.hosts[name], self.address, "--name", name, "--slots", str(slots))
        for name in names:
            self._await(name)

    def end(self, name: str) -> tuple[int, str]:
        """End a host or the scheduler as a person does; returns status and standard error."""
        process = self.started.pop(name)
        process.terminate()
        _, errors = process.communicate(timeout=120)
        return process.returncode, errors

    def run(
        self, *arguments: str, folder: Path = STAND_INS, results: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a run of stand-ins on the hosts, from where the scheduler is."""
        return self.middle.popen(
            RUN, str(folder), f"--on={self.address}", f"--certificates={self.certificates}", "-n", "0",
            f"--results={results or self.folder / 'results'}", *arguments,
        )  # fmt: skip

    def sysvm(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command, from where the scheduler is."""
        return self.middle.popen(_SYSVM, *arguments)

    def _clear(self) -> None:
        for host in (*self.hosts.values(), self.middle):
            host.die()
            subprocess.run(["ip", "netns", "del", host.namespace], capture_output=True, check=False)
        for process in self.started.values():
            process.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)


def outcome(process: subprocess.Popen[str], seconds: float = 120.0) -> tuple[int, str, str]:
    """Return status, output and errors of a process once it has ended."""
    output, errors = process.communicate(timeout=seconds)
    return process.returncode, output, errors
