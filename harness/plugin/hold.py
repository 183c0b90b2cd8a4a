"""Holding a scenario: a shell or a command in its VM before it, after it, and at the failure of a patch."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bundle import programs
from bundle.errors import SysvmError
from harness.guest import terminal
from harness.guest.guest import SshGuest
from harness.lab.lab import Lab
from harness.lab.standstill import LONGEST
from harness.record import progress
from harness.vm.system import SystemVm


@contextmanager
def held(vm: SystemVm, command: str | None) -> Iterator[None]:
    """Stop before and after what is done with a VM, if somebody asked for it."""
    if command is None:
        yield
        return
    stop_at(vm, "before", command)
    yield
    stop_at(vm, "after", command)


def stop_at(vm: SystemVm, moment: str, command: str, guest: SshGuest | None = None) -> None:
    """Open a shell in a VM and wait for its end, or run a command there and show what it says.

    Args:
        vm: the VM.
        moment: ``before``, ``after`` or ``after the failure of`` the scenario.
        command: what to run; empty opens a shell.
        guest: another connection to the VM, where its own is busy.
    """
    if command:
        done = (guest or vm.guest).run(command, deadline=600, check=False)
        progress.plain(f"{moment}: {command!r} ended with status {done.status}")
        for line in (done.stdout + done.stderr).splitlines():
            progress.plain(f"  {line}")
        return
    terminal.require_ssh()
    progress.plain(f"{moment} the scenario: a shell in {vm.name}; when it ends, the run goes on")
    with progress.away(), programs.starting("ssh"):
        subprocess.run(terminal.ssh_command(vm.guest.port, vm.guest.key), check=False)


# While it is there the patch stands still; whoever has looked enough removes it.
HELD = "/run/sysvm-held"
_LOOK_EVERY = 1.0


def at_rollback(vm: SystemVm, command: str = "") -> None:
    """Let a person look at a VM whose patch has failed and has undone nothing yet.

    A command shows its output; a terminal gets a shell; elsewhere the way in and the way on are printed.

    Args:
        vm: the VM; its own connection is busy with the patch.
        command: what to run there in place of a shell.
    """
    guest = SshGuest(f"{vm.name}-held", vm.guest.host, vm.guest.port, vm.guest.key)
    try:
        if command or sys.stdin.isatty():
            stop_at(vm, "at the failure, before the rollback of", command, guest)
            return
        guest.run(f"touch {HELD}")
        enter = shlex.join(terminal.ssh_command(vm.guest.port, vm.guest.key))
        progress.plain(f"{vm.name} stands still: its patch has failed, and nothing is rolled back yet")
        progress.plain(f"  to look inside:  {enter}")
        progress.plain(f"  to let it go on: {enter} rm {HELD}    (by itself in {LONGEST / 60:.0f} minutes)")
        end = time.monotonic() + LONGEST
        while time.monotonic() < end and guest.run(f"test -e {HELD}", check=False).status == 0:
            time.sleep(_LOOK_EVERY)
        guest.run(f"rm -f {HELD}")
    finally:
        guest.close()


def keep_failed(lab: Lab, vm: SystemVm) -> None:
    """Keep the VM of a scenario that failed as a snapshot, and say how it is restored; or why it is not kept."""
    from harness.kept import snapshots

    try:
        kept = snapshots.take_failed(lab, vm)
    except SysvmError as error:
        progress.say(f"the VM is not kept: {error.diagnostics()}")
    else:
        progress.say(
            f"the VM is kept: 'sysvm vm restore {kept.name}' starts it as it was at the scenario's end"
        )
