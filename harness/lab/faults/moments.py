"""Moments of a live patch, given by progress that anybody can see; and what is done to its processes then.

A watcher inside the guest looks every few milliseconds, so that a moment is met as it is and not a round trip later.
"""

from __future__ import annotations

import re
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Literal, TypeAlias

import paramiko

from bundle.archive.limits import AnswerLimits
from bundle.errors import InfrastructureError
from harness.guest import documents
from harness.guest.guest import SshGuest
from harness.vm.system import SystemVm

LOG = "/var/log/livepatchsystemvm.log"
# Seconds within which a moment has to come; a patch may take ten minutes, but those of scenarios do not.
PATIENCE = 120.0
MomentKind: TypeAlias = Literal["logged", "changed", "process", "child", "now"]


@dataclass(frozen=True)
class Moment:
    """A moment of a patch; made by the functions below, from :func:`logged` to :func:`now`."""

    kind: MomentKind
    argument: str

    def __str__(self) -> str:
        return f"{self.kind} {self.argument}"


def logged(pattern: str, path: str = LOG) -> Moment:
    """Return the moment when a log holds a pattern that it did not hold when the watch began."""
    return Moment("logged", f"{path} {pattern}")


def changed(path: str) -> Moment:
    """Return the moment when a file is written, replaced, made or removed."""
    return Moment("changed", path)


def nth_process(count: int) -> Moment:
    """Return the moment when so many processes were started in the VM since the patch script began."""
    return Moment("process", str(count))


def runs(program: str) -> Moment:
    """Return the moment when the patch runs a program whose command line holds a pattern."""
    return Moment("child", program)


def now() -> Moment:
    """Return the moment when somebody asks for it."""
    return Moment("now", "")


@dataclass
class Watched:
    """The words of a watcher.

    Attributes:
        watcher: number of its process in the guest.
        met: whether the moment came.
        done: command lines of the processes that something was done to.
    """

    watcher: int = 0
    met: bool = False
    done: list[str] = field(default_factory=list)
    problem: str = ""


def beside(vm: SystemVm, name: str) -> SshGuest:
    """Return a connection to a VM of its own, so that one more thing can be done beside the first."""
    return SshGuest(f"{vm.guest.name}-{name}", "127.0.0.1", vm.guest.port, vm.guest.key)


@contextmanager
def watch(
    vm: SystemVm, moment: Moment, who: str, signal: str, patience: float = PATIENCE
) -> Iterator[Watched]:
    """Watch for a moment and send a signal to processes of the patch then; the end waits for the watcher.

    Args:
        vm: the VM.
        moment: when.
        who: ``all``, ``worker``, ``child`` (the one that was started last) or ``child:PATTERN``.
        signal: its name, such as ``KILL``; ``CONT`` does nothing to a process that runs.
        patience: seconds.

    Raises:
        InfrastructureError: the guest cannot watch.
    """
    guest = beside(vm, "watcher")
    try:
        told, listen = begin_watch(guest, moment, who, signal, patience)
        thread = threading.Thread(target=listen, name="watch a patch", daemon=True)
        thread.start()
        yield told
        thread.join(5 if told.met else patience + 30)
    finally:
        guest.close()


def begin_watch(
    guest: SshGuest, moment: Moment, who: str, signal: str, patience: float
) -> tuple[Watched, Callable[[], None]]:
    """Start a watcher; returns what it will have told, and what waits for its words. Arguments are those of ``watch``.

    Raises:
        InfrastructureError: the guest cannot watch.
    """
    told = Watched()
    program = files("harness.lab.faults.guest").joinpath("watch.py").read_bytes()
    words = " ".join(map(shlex.quote, (moment.kind, moment.argument, who, signal, str(patience))))
    channel = guest.channel(f"python3 - {words}", 60)
    channel.sendall(program)
    channel.shutdown_write()
    told.watcher = _await_word(channel, guest.name)
    return told, lambda: _listen(channel, told, patience + 480)


def _await_word(channel: paramiko.Channel, name: str) -> int:
    """Return the number of the watcher's process, once it watches."""
    channel.settimeout(60)
    said = b""
    while not said.endswith(b"\n") and len(said) < 64 and (more := channel.recv(64)):
        said += more
    told = re.fullmatch(rb"watching (\d+)\n", said)
    if told is None:
        why = channel.recv_stderr(400).decode(errors="replace")
        raise InfrastructureError(f"{name}: nothing watches the patch: {why.strip()[-200:]}")
    return int(told[1])


def _listen(channel: paramiko.Channel, told: Watched, most: float) -> None:
    channel.settimeout(None)
    text = b""
    end = time.monotonic() + most
    while time.monotonic() < end:
        try:
            more = channel.recv(1 << 16)
        except (OSError, EOFError) as error:
            told.problem = str(error)
            return
        if not more:
            break
        text += more
        if len(text) > AnswerLimits.json:
            told.problem = f"the watcher said more than {AnswerLimits.json} bytes, which is the limit"
            return
    try:
        answer = documents.parse(text.decode().strip().splitlines()[-1])
    except (ValueError, IndexError):
        told.problem = f"the watcher said {text[-200:]!r}"
        return
    told.met, told.done = answer["met"], answer["done"]
