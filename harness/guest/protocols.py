"""Protocols: the judging half's needs of the driving half.

Checks, state digests and the management plane import no libvirt and no paramiko: they see a guest only
through :class:`Guest`, which ``harness.guest.guest.SshGuest`` fulfils, and so does the simulator of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias


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


class Blocks(Protocol):
    """A disk, as it was at one moment."""

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of ranges (offset, length), in order; a read that fails is an OSError."""
        ...


# Shows a guest's disk as it is now, for the length of a ``with`` block.
DiskSource: TypeAlias = Callable[[], AbstractContextManager[Blocks]]


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


def disk_of(guest: Guest) -> DiskSource | None:
    """Return what shows the guest's disk past its own programs; None where its host does not."""
    shown: DiskSource | None = getattr(guest, "disk", None)
    return shown
