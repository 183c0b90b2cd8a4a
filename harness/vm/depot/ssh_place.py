"""Files of another host over SSH: read, listed, and written so that they appear whole."""

from __future__ import annotations

import contextlib
import getpass
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

import paramiko

from bundle.errors import InfrastructureError
from harness.guest import host_keys

T = TypeVar("T")
_PATIENCE = 60.0
_KEY_FILES = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass
class Sftp:
    """A connection to a host's file transfer; it is made at the first use, and must answer with a key that is known.

    Attributes:
        host: its name or address.
        port: of its SSH server.
        user: the login; the name of who runs this when it is empty.
        known_hosts: files of known hosts; OpenSSH's own when None.
        keys: private keys to log in with, after those of the agent; OpenSSH's usual files when None.
    """

    host: str
    port: int
    user: str = ""
    known_hosts: list[Path] | None = None
    keys: list[Path] | None = None
    _transport: paramiko.Transport | None = field(default=None, init=False)
    _client: paramiko.SFTPClient | None = field(default=None, init=False)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()
        self._transport = self._client = None

    def read(self, path: str, most: int) -> bytes | None:
        """Return at most so many bytes of a file; None when it is not there."""

        def get(client: paramiko.SFTPClient) -> bytes | None:
            try:
                with client.open(path, "rb") as file:
                    file.prefetch(min(most, file.stat().st_size or 0))
                    return file.read(most)
            except FileNotFoundError:
                return None

        return self._do(f"read {path}", get)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none when it is not there."""

        def look(client: paramiko.SFTPClient) -> list[str]:
            try:
                return sorted(client.listdir(folder))
            except FileNotFoundError:
                return []

        return self._do(f"list {folder}", look)

    def write(self, path: str, data: bytes) -> None:
        """Make a file that appears whole, and the folders above it."""

        def put(client: paramiko.SFTPClient) -> None:
            target = PurePosixPath(path)
            beside = str(target.with_name(f".{target.name}-{secrets.token_hex(4)}"))
            _make_folder(client, target.parent)
            try:
                with client.open(beside, "wb") as file:
                    file.set_pipelined(True)
                    file.write(data)
                _require_size(client, beside, len(data))
                client.posix_rename(beside, path)
            except BaseException:
                with contextlib.suppress(Exception):
                    client.remove(beside)
                raise

        self._do(f"write {path}", put)

    def _do(self, what: str, act: Callable[[paramiko.SFTPClient], T]) -> T:
        try:
            if self._client is None:
                self._client = self._connect()
            return act(self._client)
        except (OSError, EOFError, paramiko.SSHException) as error:
            self.close()
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise InfrastructureError(f"{self.host}: cannot {what} ({reason})") from None

    def _connect(self) -> paramiko.SFTPClient:
        check = host_keys.read_check([], trust_first=False, names=[self.host], files=self.known_hosts)
        connection = socket.create_connection((self.host, self.port), timeout=_PATIENCE)
        transport = self._transport = paramiko.Transport(connection)
        options = transport.get_security_options()
        options.key_types = check.algorithms(self.host, self.port, options.key_types)
        transport.start_client(timeout=_PATIENCE)
        try:
            check.check(self.host, self.host, self.port, transport.get_remote_server_key())
        except host_keys.HostKeyRefused as error:
            raise InfrastructureError(
                str(error), hint=f"log in once with 'ssh -p {self.port} {self.host}', and compare its key"
            ) from None
        self._login(transport)
        client = paramiko.SFTPClient.from_transport(transport)
        if client is None:
            raise paramiko.SSHException("no file transfer")
        client.get_channel().settimeout(_PATIENCE)  # type: ignore[union-attr]
        return client

    def _login(self, transport: paramiko.Transport) -> None:
        user = self.user or getpass.getuser()
        for key in self._login_keys():
            with contextlib.suppress(paramiko.AuthenticationException):
                transport.auth_publickey(user, key)
            if transport.is_authenticated():
                return
        raise InfrastructureError(
            f"{self.host}: no key logs {user} in",
            hint="ssh-add a key, or keep one without a passphrase in ~/.ssh",
        )

    def _login_keys(self) -> list[paramiko.PKey]:
        found: list[paramiko.PKey] = list(paramiko.Agent().get_keys()) if self.keys is None else []
        usual = [Path.home() / ".ssh" / name for name in _KEY_FILES]
        for path in usual if self.keys is None else self.keys:
            if path.is_file():
                with contextlib.suppress(paramiko.SSHException, ValueError, OSError):  # one with a passphrase
                    found.append(paramiko.PKey.from_path(path))
        return found


def _require_size(client: paramiko.SFTPClient, path: str, size: int) -> None:
    if client.stat(path).st_size != size:
        raise OSError(f"{path} has not all of {size} bytes")


def _make_folder(client: paramiko.SFTPClient, folder: PurePosixPath) -> None:
    """Make a folder with those above it; it holds keys of guests, so that only its owner may look into it."""
    missing = []
    while str(folder) not in ("/", "."):
        try:
            client.stat(str(folder))
            break
        except FileNotFoundError:
            missing.append(folder)
            folder = folder.parent
    for one in reversed(missing):
        # Another sender may make it at this moment: then it is there, which the next step finds.
        with contextlib.suppress(OSError):
            client.mkdir(str(one), 0o700)
