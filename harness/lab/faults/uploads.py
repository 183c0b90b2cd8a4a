"""The upload: lines that are slow, cut or end early, and what happens once the bundle has landed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from bundle import layout
from bundle.errors import Exit, InfrastructureError, SysvmError
from harness.guest.connection import SshCommandResult
from harness.guest.guest import SshGuest
from harness.guest.transfer import CLEAR, LineConditions
from harness.lab.faults.outside import outside
from harness.vm.system import SystemVm


class FaultFailed(SysvmError):
    """A fault did not begin, or not end: the machine is to blame, and the patch has answered nothing."""

    exit_status = Exit.INFRASTRUCTURE


class OverLines:
    """A guest whose uploads meet one line after the other, and good ones after the last.

    Attributes:
        uploads: how many were begun.
    """

    def __init__(self, guest: SshGuest, lines: Iterable[LineConditions]) -> None:
        """Take over a guest."""
        self._guest = guest
        self._lines = itertools.chain(lines, itertools.repeat(CLEAR))
        self.name = guest.name
        self.uploads = 0

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Upload a file over the next line."""
        self.uploads += 1
        self._guest.put(data, path, mode, line=next(self._lines))

    def run(
        self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True
    ) -> SshCommandResult:
        """Run a command as ever."""
        return self._guest.run(command, deadline=deadline, stdin=stdin, check=check)


class Landed:
    """A guest whose fault begins when the bundle has landed, just before the patch script runs, and ends with it."""

    def __init__(self, guest: SshGuest, begun: AbstractContextManager[object]) -> None:
        """Take over a guest."""
        self._guest, self._begun = guest, begun
        self.name = guest.name

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Upload a file as ever."""
        self._guest.put(data, path, mode)

    def run(
        self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True
    ) -> SshCommandResult:
        """Run a command; the patch script runs within the fault.

        Raises:
            GuestError: the guest does not do its part: for who patches that is an answer.
            FaultFailed: the fault did not begin, or not end, which is none.
        """
        with ExitStack() as stack:
            if command.endswith(layout.SCRIPT):
                stack.enter_context(self._within())
            return self._guest.run(command, deadline=deadline, stdin=stdin, check=check)

    @contextmanager
    def _within(self) -> Iterator[None]:
        with ExitStack() as stack:
            with _failing(self.name, "begin"):
                stack.enter_context(self._begun)
            try:
                yield
            finally:
                with _failing(self.name, "end"):
                    stack.close()


@contextmanager
def _failing(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except InfrastructureError as error:
        raise FaultFailed(f"{name}: the fault does not {what}: {error}", hint=error.hint) from error


@outside("upload.lines", "files of the bundle come over lines that are slow, are cut, or end early unnoticed")
def lines(vm: SystemVm, lines: Sequence[LineConditions]) -> Iterator[OverLines]:
    """Yield a guest to patch over such lines, one a file."""
    yield OverLines(vm.guest, lines)
