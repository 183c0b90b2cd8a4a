"""The host of the depot that the guides speak of: its files over SSH, its web server, and its name."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import paramiko

from tests import certificates, guides
from tests.sftp import Files
from tests.ssh_server import ssh_server

NAME = "depot.example"
# An address of loopback on which nobody else listens.
ADDRESS = "127.77.83.83"


class _Shown(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class DepotHost:
    """A depot's host as a person with a home folder reaches it.

    Attributes:
        caches: of the two runners that share the depot: the first has a snapshot when it pushes, the second nothing.
    """

    def __init__(self, home: Path) -> None:
        """Take a person's home."""
        self._home = home
        self.caches = (home / "cache-1", home / "cache-2")

    def environment(self, line: str) -> Mapping[str, str]:
        """Return what a runner has in its environment that pushes or pulls."""
        cache = self.caches[0] if " push " in line else self.caches[1]
        if not self.caches[0].exists():
            _fill(self._home, self.caches[0])
        return {"SYSVM_CACHE": str(cache), "SSL_CERT_FILE": str(self._home / "server.pem")}

    def command(self, line: str) -> list[str]:
        """Return what runs a line where the host's name is known; needs root."""
        hosts = shlex.quote(str(self._home / "hosts"))
        inner = f"mount --bind {hosts} /etc/hosts && exec bash -euc {shlex.quote(line)}"
        # Mounts of the machine still arrive here: the line may start a daemon that stays.
        return ["unshare", "--mount", "--propagation", "slave", "bash", "-euc", inner]


@contextmanager
def serving(home: Path) -> Iterator[DepotHost]:
    """Serve the host while the block lasts; needs root."""
    there = DepotHost(home)
    (home / "hosts").write_text(f"{Path('/etc/hosts').read_text()}\n{ADDRESS} {NAME}\n")
    ssh, root = home / ".ssh", home / "depot-host"
    ssh.mkdir(mode=0o700)
    (root / "srv").mkdir(parents=True)
    host_key, login = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
    login.write_private_key_file(str(ssh / "id_ecdsa"))
    (ssh / "known_hosts").write_text(f"{NAME} {host_key.get_name()} {host_key.get_base64()}\n")
    handler = partial(_Shown, directory=str(root / "srv"))
    listener = socket.create_server((ADDRESS, 22))
    shared = ssh_server(host_key, login, partial(Files, root=root), listener)
    with shared, ThreadingHTTPServer((ADDRESS, 443), handler) as web:
        web.socket = certificates.context(home, NAME).wrap_socket(web.socket, server_side=True)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        try:
            yield there
        finally:
            web.shutdown()


def _fill(home: Path, cache: Path) -> None:
    """Give a runner the smallest snapshot of this machine, by way of a depot in a folder."""
    kept = json.loads(_sysvm(home, "cache", "list", "--json"))
    smallest = min((row for row in kept if row["kind"] == "golden"), key=lambda row: row["bytes"])
    near = str(home / "near-depot")
    _sysvm(home, "cache", "push", near, smallest["key"])
    _sysvm(home, "cache", "pull", near, SYSVM_CACHE=str(cache))


def _sysvm(home: Path, *words: str, **more: str) -> str:
    done = subprocess.run(
        ["sysvm", *words], env={**guides.environment(home), **more}, cwd=home, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
