"""Protocols: the judging half's needs of the driving half.

Checks, state digests and the management plane import no libvirt and no paramiko: they see a guest only
through :class:`Guest`, which ``harness.guest.guest.SshGuest`` fulfils, and so does the simulator of the tests.
"""

from __future__ import annotations

from typing import Protocol


class CommandResult(Protocol):
    """The result of one command, whichever way it went to the guest."""

    @property
    def status(self) -> int:
        """Exit status."""
        ...

    @property
    def stdout(self) -> str:
        """Standard output."""
        ...

    @property
    def stderr(self) -> str:
        """Standard error."""
        ...

    @property
    def seconds(self) -> float:
        """Wall time."""
        ...


class Guest(Protocol):
    """A guest that runs commands and takes files."""

    @property
    def name(self) -> str:
        """The guest's name in messages."""
        ...

    def run(
        self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True
    ) -> CommandResult:
        """Run a shell command once; with ``check`` a status other than 0 raises a GuestError."""
        ...

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Upload a file."""
        ...
