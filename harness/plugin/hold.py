"""Holding a scenario: a shell or a command in its VM before and after it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from harness.guest import terminal
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


def stop_at(vm: SystemVm, moment: str, command: str) -> None:
    """Open a shell in a VM and wait for its end, or run a command there and show what it says.

    Args:
        vm: the VM.
        moment: ``before``, ``after`` or ``after the failure of`` the scenario.
        command: what to run; empty opens a shell.
    """
    if command:
        done = vm.guest.run(command, deadline=600, check=False)
        progress.plain(f"{moment}: {command!r} ended with status {done.status}")
        for line in (done.stdout + done.stderr).splitlines():
            progress.plain(f"  {line}")
        return
    progress.plain(f"{moment} the scenario: a shell in {vm.name}; when it ends, the run goes on")
    subprocess.run(terminal.ssh_command(vm.guest.port, vm.guest.key), check=False)
