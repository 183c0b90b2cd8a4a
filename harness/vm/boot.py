"""Booting a system VM as the KVM agent does it: cmdline through the guest agent, then SSH, then the bundle.

Steps, files and bounds are those of CloudStack's LibvirtStartCommandWrapper and patch.sh; what differs between
releases is read from the catalogue.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bundle.catalogue import Release
from bundle.errors import InfrastructureError
from harness.guest.guest import SshGuest
from harness.host import wait
from harness.kvmagent.patch import LANDING, read_files, upload
from harness.machine.machine import Machine

CMDLINE_FILE = f"{LANDING}/cmdline"
_SYNC_ID = 1234567890


@dataclass(frozen=True)
class Deadlines:
    """Seconds that the steps of a boot may take.

    How fast the host is shows in the time until the guest agent answers. The steps after it may take a multiple of
    that: a fast host does not wait for minutes for a guest that hangs, nor a slow one give up on a guest that boots.

    Attributes:
        guest_agent: until the guest agent answers.
        stalled: without an answer on a host that is not busy, until the machine is reset, which is done once. An
            emulated guest was seen to stand still for ten minutes, in one of some hundreds of boots.
        least: what each step after it may take at least.
        times: what it may take, in times of what the guest agent took. A genuine router of 4.20 took 4 times as long.
    """

    guest_agent: float = 600.0
    stalled: float = 150.0
    least: float = 120.0
    times: float = 20.0

    def after(self, seconds: float) -> float:
        """Return what each later step may take, once the guest agent answered after so many seconds."""
        return max(self.least, self.times * seconds)


def normalise(cmdline: str) -> str:
    """Return the cmdline as it reaches the guest: single blanks, one newline at the end."""
    return " ".join(cmdline.split()) + "\n"


def boot(
    machine: Machine,
    guest: SshGuest,
    *,
    cmdline: str,
    release: Release,
    bundle: Path,
    public_key: str,
    progress: Callable[[str], None],
    deadlines: Deadlines = Deadlines(),
) -> None:
    """Bring a freshly started system VM to ``boot_up_done``.

    Args:
        machine: the running domain.
        guest: where its SSH port will answer.
        cmdline: boot parameters.
        release: the row of the release that the template is of.
        bundle: folder with the three files of that release.
        public_key: OpenSSH line of the key that logs in.
        progress: called with the name of each step that is done.
        deadlines: of the steps.

    Raises:
        InfrastructureError: a step fails; names the step, the VM and the log to read.
        UsageError: a file of the bundle is missing, unreadable or empty.
    """
    log = machine.folder / "console.log"
    started = time.monotonic()
    try:
        first_answer(machine, deadlines, progress)
        progress("guest agent answers")
        patience = deadlines.after(time.monotonic() - started)
        write_through_guest_agent(machine, CMDLINE_FILE, normalise(cmdline).encode())
        if release.ssh_key == "agent":
            write_through_guest_agent(machine, "/root/.ssh/authorized_keys", public_key.encode() + b"\n")
        guest.connect(patience)
        progress("SSH answers")
        if release.transport == "upload":
            upload(guest, read_files(bundle))
            progress("bundle uploaded")
        guest.wait_for_file(f"{LANDING}/boot_up_done", patience)
        progress("boot_up_done")
    except InfrastructureError as error:
        raise InfrastructureError(
            f"boot of {machine.name}: {error}{last_lines(log)}", hint=f"console log: {log}"
        ) from error


def first_answer(machine: Machine, deadlines: Deadlines, progress: Callable[[str], None]) -> None:
    """Wait for the guest agent of a machine that boots from cold; one whose boot stands still is reset, once.

    Raises:
        InfrastructureError: it does not answer in time.
    """
    if deadlines.guest_agent <= deadlines.stalled:
        wait_for_guest_agent(machine, deadlines.guest_agent)
        return
    try:
        wait_for_guest_agent(machine, deadlines.stalled, machine.stretch())
    except wait.DeadlineExceeded:
        silence = f"{machine.silence()}{last_lines(machine.folder / 'console.log')}"
        progress(f"the boot stands still, the machine is reset: {silence}")
        machine.reset()
        try:
            wait_for_guest_agent(machine, deadlines.guest_agent - deadlines.stalled)
        except wait.DeadlineExceeded as error:
            raise InfrastructureError(f"{error}, also after a reset: {machine.silence()}") from error


def last_lines(log: Path, count: int = 5) -> str:
    """Return what a console said last, for a message; nothing where it said nothing."""
    try:
        text = log.read_bytes()[-4096:].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line for line in re.sub(r"[^\n\x20-\x7e]", "", text).splitlines() if line.strip()][-count:]
    return "".join(["; the console said last:", *(f"\n    {line[:160]}" for line in lines)]) if lines else ""


def wait_for_guest_agent(
    machine: Machine, deadline: float, stretch: Callable[[], float] = wait.as_long
) -> None:
    """Ping the guest agent until it answers, then synchronise with it.

    Args:
        machine: whose agent.
        deadline: seconds.
        stretch: as in :func:`wait.until`.

    Raises:
        DeadlineExceeded: it does not answer.
        InfrastructureError: the machine ended, or the agent is out of step.
    """

    def answers() -> bool:
        if not machine.alive():
            raise InfrastructureError(f"{machine.name} ended while it booted")
        return machine.guest_agent("guest-ping") is not None

    wait.until(answers, "guest agent to answer", deadline, tick=0.05, stretch=stretch)
    answer = machine.guest_agent("guest-sync", id=_SYNC_ID)
    if answer != _SYNC_ID:
        raise InfrastructureError(f"{machine.name}: the guest agent is out of step (answered {answer!r})")


def write_through_guest_agent(machine: Machine, path: str, content: bytes) -> None:
    """Write a file by the guest agent's three calls; an existing file keeps its mode."""
    handle = machine.guest_agent("guest-file-open", path=path, mode="w+")
    if handle is None:
        raise InfrastructureError(f"{machine.name}: the guest agent fell silent while {path} was written")
    machine.guest_agent(
        "guest-file-write", **{"handle": handle, "buf-b64": base64.b64encode(content).decode()}
    )
    machine.guest_agent("guest-file-close", handle=handle)
