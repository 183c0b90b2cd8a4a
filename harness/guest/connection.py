"""The connection to a guest: commands over SSH with a deadline on each, both streams drained together, never re-run."""

from __future__ import annotations

import logging
import select
import shlex
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import paramiko

from bundle.archive.limits import AnswerLimits
from bundle.errors import InfrastructureError
from harness.guest.host_keys import HostKeyCheck
from harness.guest.protocols import DiskSource
from harness.host import wait

SSH_PORT = 3922
CONNECT_DEADLINE = 60.0
# What an emulated sshd ends soonest: OpenSSL has it in assembler, and the login key is of the same curve.
_KEY_EXCHANGE = "ecdh-sha2-nistp256"
_CHUNK = 1 << 18
# Every failure is raised; paramiko would print the traceback of each vain attempt to log in as well.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class GuestError(InfrastructureError):
    """Base of what can go wrong between the harness and a guest."""


class ConnectionLost(GuestError):
    """The SSH connection ended while a command ran: whether it did its work is unknown."""


class CommandDeadline(GuestError):
    """A command did not end in time; it may still be running."""


class GuestStopped(GuestError):
    """A guest was stopped by its host and cannot answer: that is no fault of anything in it."""


class GuestLockedUp(GuestStopped):
    """The kernel of a guest stands still: its console says so, and nothing else of it answers."""

    once_more = True


class AnswerTooLong(GuestError):
    """A command wrote more than is taken from a guest; it may still be running."""


class CommandFailed(GuestError):
    """A command ended with a status other than 0."""

    def __init__(self, guest: str, completed: SshCommandResult) -> None:
        """Name the guest, the command, its status and the last line it wrote."""
        last = (completed.stderr.strip() or completed.stdout.strip()).splitlines()[-1:]
        tail = f": {last[0]}" if last else ""
        super().__init__(f"{guest}: {completed.command!r} ended with status {completed.status}{tail}")
        self.completed = completed


@dataclass(frozen=True)
class SshCommandResult:
    """The result of one command over SSH. ``seconds`` is the harness's wall time."""

    command: str
    status: int
    stdout: str
    stderr: str
    seconds: float


class Connection:
    """A connection to one guest; :class:`harness.guest.guest.SshGuest` adds what a person asks of it.

    Args of the constructor:
        name: what the guest is called in messages.
        host: loopback address of the host.
        port: loopback port that leads to the guest's SSH port.
        key: private key file, OpenSSH or PEM format.
        user: login name.

    Attributes:
        host_keys: who may answer there; None for a VM that this process has started itself.
        stopped_by: returns why the host has stopped the guest, or nothing; None where nobody can say. It is asked when
            the guest is silent.
        locked_up: returns how long the guest's kernel has stood still, or nothing; asked as ``stopped_by`` is.
        disk: shows the guest's disk, past its own programs; None where its host does not.
        limits: the most that is taken from the guest as the answer to one command.
        grace: seconds that every command's deadline is later by, while a person may let the guest stand still.
    """

    limits = AnswerLimits()

    def __init__(self, name: str, host: str, port: int, key: Path, user: str = "root") -> None:
        """Remember where the guest is; connects with the first command."""
        self.name = name
        self.host = host
        self.port = port
        self.key = key
        self.user = user
        self.host_keys: HostKeyCheck | None = None
        self.grace = 0.0
        self.stopped_by: Callable[[], str] | None = None
        self.disk: DiskSource | None = None
        self.locked_up: Callable[[], str] | None = None
        self._prelude: Callable[[], str] | None = None
        self._transport: paramiko.Transport | None = None

    def __enter__(self) -> Self:
        """Return the guest itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def precede_first(self, prelude: Callable[[], str]) -> None:
        """Let a line of shell run in front of the next command, in the same shell: it costs no round trip."""
        self._prelude = prelude

    def connect(self, deadline: float = CONNECT_DEADLINE) -> None:
        """Connect and log in, trying until the deadline: sshd may not be up yet.

        Raises:
            GuestError: no login in time, with the last reason.
            HostKeyRefused: somebody else answers there, or nobody knows who.
        """
        patience = wait.Patience(f"{self.name}: an SSH login", deadline)
        while True:
            try:
                self._transport = self._login(max(1.0, patience.left))
            except (OSError, EOFError, paramiko.SSHException) as error:
                reason = f"{type(error).__name__}: {error}"
                if patience.ended(reason):
                    raise GuestError(
                        f"{self.name}: no SSH login at {self.host}:{self.port} within {deadline:g} s ({reason})",
                        hint="read its console log",
                    ) from None
                time.sleep(0.05)
            else:
                return

    def _login(self, deadline: float) -> paramiko.Transport:
        connection = socket.create_connection((self.host, self.port), timeout=deadline)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(connection, disabled_algorithms={"pubkeys": []})
        options = transport.get_security_options()
        options.kex = sorted(options.kex, key=lambda name: name != _KEY_EXCHANGE)
        if self.host_keys is not None:
            options.key_types = self.host_keys.algorithms(self.host, self.port, options.key_types)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = deadline
        try:
            transport.start_client(timeout=deadline)
            if self.host_keys is not None:
                self.host_keys.check(self.name, self.host, self.port, transport.get_remote_server_key())
            transport.auth_publickey(self.user, paramiko.PKey.from_path(self.key))
        except BaseException:
            transport.close()
            raise
        transport.set_keepalive(15)
        return transport

    def close(self) -> None:
        """Close the connection; the next command opens a new one."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    @property
    def connected(self) -> bool:
        """True if there is a connection now."""
        return self._transport is not None and self._transport.is_active()

    def channel(self, command: str, deadline: float) -> paramiko.Channel:
        """Start a command and return its channel, for callers that speak a protocol on it."""
        return self._session(command, deadline, lambda channel: channel.exec_command(self._preceded(command)))

    def subsystem(self, name: str, deadline: float) -> paramiko.Channel:
        """Start a subsystem of sshd, such as ``sftp``, and return its channel."""
        return self._session(name, deadline, lambda channel: channel.invoke_subsystem(name))

    def _session(
        self, what: str, deadline: float, ask: Callable[[paramiko.Channel], object]
    ) -> paramiko.Channel:
        self._require_running()
        if self._transport is None:
            self.connect(deadline)
        assert self._transport is not None  # noqa: S101 - connect() set it or raised
        try:
            channel = self._transport.open_session(timeout=deadline)
            ask(channel)
        except (EOFError, OSError, paramiko.SSHException) as error:
            self.close()
            raise ConnectionLost(
                f"{self.name}: the SSH connection is gone before {what!r}: {error}"
            ) from None
        return channel

    def _require_running(self) -> None:
        if self.stopped_by is not None and (reason := self.stopped_by()):
            raise GuestStopped(f"{self.name}: {reason}")
        if self.locked_up is not None and (reason := self.locked_up()):
            raise GuestLockedUp(f"{self.name}: {reason}", hint="read its console log")

    def _preceded(self, command: str) -> str:
        prelude, self._prelude = self._prelude, None
        return f"{prelude()}\n{command}" if prelude else command

    def run(
        self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True
    ) -> SshCommandResult:
        """Run a shell command once.

        Args:
            command: for the guest's login shell.
            deadline: seconds until it must have ended.
            stdin: what it reads.
            check: raise when it ends with a status other than 0.

        Raises:
            CommandDeadline: it did not end in time.
            ConnectionLost: the connection ended first.
            CommandFailed: ``check`` is set and the status is not 0.
            AnswerTooLong: it wrote more than the connection's limits allow.
            GuestStopped: the host has stopped the guest, or its kernel stands still (``GuestLockedUp``).
        """
        started = time.monotonic()
        deadline += self.grace
        channel = self.channel(command, deadline)
        try:
            stdout, stderr = self._drain(channel, command, stdin, started + deadline, deadline)
            channel.status_event.wait(max(0.0, started + deadline - time.monotonic()))
            if channel.exit_status < 0:
                raise ConnectionLost(f"{self.name}: the connection ended during {command!r}")
        finally:
            channel.close()
        completed = SshCommandResult(
            command, channel.exit_status, stdout.decode(errors="replace"), stderr.decode(errors="replace"),
            time.monotonic() - started,
        )  # fmt: skip
        if check and completed.status != 0:
            raise CommandFailed(self.name, completed)
        return completed

    def _drain(
        self, channel: paramiko.Channel, command: str, stdin: bytes, end: float, deadline: float
    ) -> tuple[bytes, bytes]:
        output, errors = bytearray(), bytearray()
        unsent = stdin
        while not (channel.eof_received or channel.closed):
            if unsent and channel.send_ready():
                unsent = unsent[channel.send(unsent[:_CHUNK]) :]
                if not unsent:
                    channel.shutdown_write()
            patience = 0.02 if unsent else min(1.0, max(0.0, end - time.monotonic()))
            heard, _, _ = select.select([channel], [], [], patience)
            if not (heard or unsent):
                self._require_running()
            self._take(channel, command, output, errors)
            if time.monotonic() >= end:
                raise CommandDeadline(
                    f"{self.name}: {command!r} did not end within {deadline:g} s (last output: "
                    f"{bytes(output[-80:] or errors[-80:]).decode(errors='replace')!r})"
                )
        self._take(channel, command, output, errors)
        return bytes(output), bytes(errors)

    def _take(self, channel: paramiko.Channel, command: str, output: bytearray, errors: bytearray) -> None:
        while channel.recv_ready():
            output += channel.recv(_CHUNK)
            self._within(len(output), self.limits.output, "output", command)
        while channel.recv_stderr_ready():
            errors += channel.recv_stderr(_CHUNK)
            self._within(len(errors), self.limits.errors, "errors", command)

    def _within(self, size: int, most: int, what: str, command: str) -> None:
        if size > most:
            raise AnswerTooLong(
                f"{self.name}: {command[:200]!r} wrote more than {most} bytes of {what}, which is the limit"
            )

    def get(self, path: str, *, deadline: float = 60.0) -> bytes:
        """Return the content of a file.

        Raises:
            CommandFailed: it cannot be read.
        """
        command = f"cat -- {shlex.quote(path)}"
        started = time.monotonic()
        deadline += self.grace
        channel = self.channel(command, deadline)
        try:
            stdout, stderr = self._drain(channel, command, b"", started + deadline, deadline)
            channel.status_event.wait(max(0.0, started + deadline - time.monotonic()))
            status = channel.exit_status
        finally:
            channel.close()
        if status != 0:
            failed = SshCommandResult(
                command, status, "", stderr.decode(errors="replace"), time.monotonic() - started
            )
            raise CommandFailed(self.name, failed)
        return stdout
