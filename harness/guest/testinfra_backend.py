"""testinfra on top of our own guest connection: one deadline a command, nothing is ever run twice."""

from __future__ import annotations

from typing import Any

import testinfra.host
from testinfra.backend.base import BaseBackend, CommandResult

from harness.guest.guest import SshGuest


class GuestBackend(BaseBackend):
    """Runs testinfra's commands through a ``SshGuest``: its own paramiko backend repeats them after a reconnect."""

    NAME = "sysvm"

    def __init__(self, guest: SshGuest) -> None:
        """Use ``guest`` for every command."""
        super().__init__(guest.name)
        self._guest = guest

    def run(self, command: str, *args: str, **_kwargs: Any) -> CommandResult:
        """Run one command and return its result."""
        line = self.get_command(command, *args)
        done = self._guest.run(line, check=False)
        return self.result(done.status, self.encode(line), done.stdout, done.stderr)


def host_of(guest: SshGuest) -> testinfra.host.Host:
    """Return testinfra's view of a guest: a new one each time, so that nothing is remembered across a restore."""
    return testinfra.host.Host(GuestBackend(guest))
