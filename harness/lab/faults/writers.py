"""Somebody else who writes to the VM at the same time: a second patch, rules, a foreign lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bundle.errors import InfrastructureError, SysvmError
from harness.guest.guest import SshGuest
from harness.kvmagent import patch
from harness.kvmagent.patch import BundleFiles, PatchAnswer
from harness.lab.faults.moments import Moment, Watched, beside, watch
from harness.lab.faults.outside import outside
from harness.vm.system import SystemVm

_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")
# Locks as dpkg does, until its standard input ends.
_HOLD = (
    "import fcntl, sys\n"
    "held = [open(path, 'a') for path in sys.argv[1:]]\n"
    "for file in held: fcntl.lockf(file, fcntl.LOCK_EX)\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()\n"
)


@dataclass
class Beside:
    """The deed of somebody beside the patch, at a moment.

    Attributes:
        answer: what came of a second patch.
        problem: why it did not work out, for people; empty when it did.
        ran: whether it was begun at all.
    """

    answer: PatchAnswer | None = None
    problem: str = ""
    ran: bool = False
    watched: Watched = field(default_factory=Watched)


@outside("patch.second", "a second patch is begun while the first one is at a moment")
def second_patch(vm: SystemVm, files: BundleFiles, moment: Moment) -> Iterator[Beside]:
    """Run the patch script once more, from another session, at a moment of the first patch."""

    def act(guest: SshGuest, told: Beside) -> None:
        told.answer = patch.patch(guest, files, forced=True)

    yield from at(vm, moment, act)


@outside("rule.in-the-middle", "something is sent to the VM while the patch is at a moment")
def in_the_middle(vm: SystemVm, moment: Moment, send: Callable[[SshGuest], object]) -> Iterator[Beside]:
    """Let a server send something from another session at a moment of the patch."""

    def act(guest: SshGuest, _told: Beside) -> None:
        send(guest)

    yield from at(vm, moment, act)


def at(vm: SystemVm, moment: Moment, act: Callable[[SshGuest, Beside], None]) -> Iterator[Beside]:
    """Do something from another session when the patch comes to a moment; the end waits for it."""
    told = Beside()
    guest = beside(vm, "beside")
    guest.connect()

    def wait_and_act() -> None:
        # The signal does nothing to a process that runs: all that is wanted is the moment.
        with watch(vm, moment, "worker", "CONT") as seen:
            pass
        told.watched, told.ran = seen, seen.met
        if not seen.met:
            told.problem = f"{moment} did not come: {seen.problem or 'the patch was over'}"
            return
        try:
            act(guest, told)
        except SysvmError as error:
            told.problem = error.diagnostics()

    thread = threading.Thread(target=wait_and_act, name="beside a patch")
    thread.start()
    try:
        yield told
    finally:
        thread.join()
        guest.close()


@outside("lock.foreign", "somebody else holds a lock, by default that of dpkg")
def foreign_lock(vm: SystemVm, paths: tuple[str, ...] = _LOCKS) -> Iterator[None]:
    """Hold locks of the VM, as another program there would."""
    guest = beside(vm, "lock")
    words = " ".join(paths)
    channel = guest.channel(f'python3 -c "{_HOLD}" {words}', 60)
    try:
        channel.settimeout(60)
        if not channel.recv(16).startswith(b"held"):
            said = channel.recv_stderr(400).decode(errors="replace").strip()
            raise InfrastructureError(f"{guest.name}: the locks cannot be held: {said[-200:]}")
        yield
    finally:
        channel.close()
        guest.close()
