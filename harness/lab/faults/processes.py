"""Processes of the patch: killed or stopped at a moment, whatever script it is."""

from __future__ import annotations

from collections.abc import Iterator

from harness.lab.faults.moments import PATIENCE, Moment, Watched, watch
from harness.lab.faults.outside import outside
from harness.vm.system import SystemVm


@outside("process.killed", "processes of the patch are killed at a moment")
def killed(vm: SystemVm, moment: Moment, who: str = "all", patience: float = PATIENCE) -> Iterator[Watched]:
    """Kill processes of the patch at a moment.

    Args:
        vm: the VM.
        moment: when.
        who: ``all``, ``worker``, ``child`` or ``child:PATTERN``; see ``moments.watch``.
        patience: seconds for the moment to come.
    """
    with watch(vm, moment, who, "KILL", patience) as told:
        yield told


@outside("process.hangs", "a process that the patch has started stands still from a moment on")
def hangs(vm: SystemVm, moment: Moment, who: str = "child", patience: float = PATIENCE) -> Iterator[Watched]:
    """Stop processes of the patch at a moment, for good."""
    with watch(vm, moment, who, "STOP", patience) as told:
        yield told
