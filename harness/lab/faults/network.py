"""The network: a cable that is pulled, and a session that is cut before its answer arrives."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator

from harness.guest.connection import ConnectionLost, SshCommandResult
from harness.guest.guest import SshGuest
from harness.guest.protocols import Guest as AnyGuest
from harness.lab.faults.outside import outside
from harness.vm.system import SystemVm


@outside("nic.down", "the cable of a network card is pulled, for good or for so many seconds")
def down(vm: SystemVm, nic: int, seconds: float | None = None) -> Iterator[None]:
    """Pull the cable of a NIC; plug it in again after some seconds, or at the end."""
    vm.machine.link(nic, up=False)
    timer = threading.Timer(seconds or 0.0, vm.machine.link, (nic,), {"up": True})
    if seconds is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        vm.machine.link(nic, up=True)


@outside("ssh.cut", "the session of the patch script is cut when so many bytes of its answer have come")
def cut(vm: SystemVm, after: int = 0, command: str = "patch-sysvms.sh") -> Iterator[AnyGuest]:
    """Yield a guest whose answer to a command never arrives.

    Args:
        vm: the VM.
        after: bytes of the answer that still come; 0 cuts at the first sign of an answer.
        command: end of the command that it happens to; all others are answered.
    """
    yield CutOff(vm.guest, after, command)


class CutOff:
    """A guest whose session is cut in the middle of one command's answer."""

    def __init__(self, guest: SshGuest, after: int, command: str) -> None:
        """Take over a guest."""
        self._guest, self._after, self._command = guest, after, command
        self.name = guest.name

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Upload a file as ever."""
        self._guest.put(data, path, mode)

    def run(
        self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True
    ) -> SshCommandResult:
        """Run a command; the one that is meant is cut off.

        Raises:
            ConnectionLost: always, for that command.
        """
        if not command.endswith(self._command):
            return self._guest.run(command, deadline=deadline, stdin=stdin, check=check)
        channel = self._guest.channel(command, deadline)
        end, taken = time.monotonic() + deadline, 0
        while time.monotonic() < end and not (channel.eof_received or channel.closed):
            select.select([channel], [], [], 0.2)
            if taken >= self._after and (channel.recv_ready() or channel.recv_stderr_ready()):
                break
            while channel.recv_ready() and taken < self._after:
                taken += len(channel.recv(self._after - taken))
        self._guest.close()
        raise ConnectionLost(f"{self.name}: the SSH connection was cut after {taken} bytes of an answer")
