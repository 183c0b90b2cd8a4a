"""An SSH server on loopback, for what logs in to one."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import paramiko

from tests.serving import listening


class Door(paramiko.ServerInterface):
    """Lets in who shows a key: any, or a certain one; ``tried`` has the names of those who showed one."""

    def __init__(self, login: paramiko.PKey | None) -> None:
        self.login = login
        self.tried: list[str] = []

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.tried.append(username)
        return paramiko.AUTH_SUCCESSFUL if self.login in (None, key) else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED


@contextmanager
def ssh_server(
    host_key: paramiko.PKey,
    login: paramiko.PKey | None = None,
    files: Callable[[paramiko.ServerInterface], paramiko.SFTPServerInterface] | None = None,
    listener: socket.socket | None = None,
) -> Iterator[tuple[int, Door]]:
    """Serve SSH, and SFTP where there are files; yields the port, and the door that knows who came.

    Args:
        host_key: what the server shows.
        login: the one key that logs in; any without one.
        files: what SFTP shows.
        listener: where from; any free port of loopback without one.
    """
    door = Door(login)
    transports: list[paramiko.Transport] = []

    def serve(stream: socket.socket) -> None:
        transport = paramiko.Transport(stream)
        transports.append(transport)
        transport.add_server_key(host_key)
        if files is not None:
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, files)
        # Who is refused leaves, and so does who refuses the host's key.
        with contextlib.suppress(paramiko.SSHException, EOFError):
            transport.start_server(server=door)
            transport.join()
        transport.close()

    with listening(serve, listener) as port:
        yield port, door
    for transport in transports:
        transport.close()
