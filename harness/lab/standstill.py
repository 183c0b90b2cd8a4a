"""A patch that stands still at its failure, before anything is rolled back, for a person to look at the VM.

It knows scripts by what they log: ours says in which phase it failed, CloudStack's own which service did not start. All
processes of the patch are stopped by a signal then, so that whatever script it is does nothing until it goes on.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from bundle.errors import InfrastructureError
from harness.lab.faults import moments
from harness.record import progress
from harness.vm.system import SystemVm

# Seconds that a person may look; then the patch goes on by itself.
LONGEST = 3600.0
# Ours, before it undoes what it did; CloudStack's own, before it restores its backup.
FAILURE = moments.logged(r"failed in phase (apply|restart)|Failed to start \S* ?service")
_WAYS_ON = 30.0

LookInside: TypeAlias = Callable[[SystemVm], None]
T = TypeVar("T")


def at_failure(vm: SystemVm, act: Callable[[], T], look: LookInside | None) -> T:
    """Return what ``act`` returns, which patches a VM; at its failure the patch stands still and ``look`` is called.

    Args:
        vm: the VM.
        act: patches it.
        look: returns when the patch may go on; None lets it do what it does.

    Raises:
        InfrastructureError: the guest cannot watch its patch.
    """
    if look is None:
        return act()
    guest = moments.beside(vm, "standstill")
    deadlines, vm.guest.grace = vm.guest.grace, LONGEST
    try:
        told, listen = moments.begin_watch(guest, FAILURE, "all", "STOP", LONGEST)

        def wait() -> None:
            listen()
            if told.done:
                try:
                    look(vm)
                finally:
                    _go_on(vm)

        thread = threading.Thread(target=wait, name="stand still", daemon=True)
        thread.start()
        try:
            answer = act()
        finally:
            if not told.met:
                with contextlib.suppress(InfrastructureError):
                    guest.run(f"kill {told.watcher}", check=False)
        thread.join(LONGEST + _WAYS_ON)
        if told.met and not told.done:
            progress.say(
                "the patch failed and had ended before it could be stopped: its log says what happened"
            )
        return answer
    finally:
        vm.guest.grace = deadlines
        guest.close()


def _go_on(vm: SystemVm) -> None:
    """Let all processes of the patch go on; those that run already do not notice."""
    guest = moments.beside(vm, "go-on")
    try:
        told, listen = moments.begin_watch(guest, moments.now(), "all", "CONT", _WAYS_ON)
        listen()
    finally:
        guest.close()
    if not told.done:
        progress.say(f"nothing of the patch was there any more to go on: {told.problem or 'it was ended'}")
