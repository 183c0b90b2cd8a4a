"""VMs behind ``sysvm serve``, for clients that nobody here wrote: started, served, and made to refuse a patch."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cs import CloudStack
from libcloud.compute.providers import get_driver
from libcloud.compute.types import Provider

Sysvm = Callable[..., "subprocess.CompletedProcess[str]"]


@contextmanager
def started(sysvm: Sysvm, kinds: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Keep VMs while the block runs.

    Args:
        sysvm: runs the command.
        kinds: type of each VM, by its name.
    """
    try:
        for name, kind in kinds.items():
            done = sysvm("vm", "start", "--type", kind, "--name", name)
            assert done.returncode == 0, done.stderr
        yield kinds
    finally:
        for name in kinds:
            sysvm("vm", "stop", name)


@contextmanager
def refusing(sysvm: Sysvm, vm: str, name: str = "held") -> Iterator[str]:
    """Have a VM refuse patches while the block runs; yields the folder that the refusal names.

    A patch replaces the tree that this folder is in, and refuses to while something is mounted there.
    """
    folder = f"/usr/local/cloud/systemvm/{name}"
    quoted = shlex.quote(folder)
    held = sysvm("vm", "exec", vm, f"mkdir {quoted} && mount -t tmpfs none {quoted}")
    assert held.returncode == 0, held.stderr
    try:
        yield folder
    finally:
        freed = sysvm("vm", "exec", vm, f"umount {quoted} && rmdir {quoted}")
        assert freed.returncode == 0, freed.stderr


@dataclass(frozen=True)
class Served:
    """A server that runs, as its command tells of it."""

    url: str
    api: str
    accounts: tuple[Mapping[str, str], ...]
    process: subprocess.Popen[str]

    def account(self, name: str) -> Mapping[str, str]:
        """Return name, password, key and secret of an account."""
        (found,) = (one for one in self.accounts if one["name"] == name)
        return found

    def cs(self, name: str, **options: Any) -> CloudStack:
        """Return the client ``cs`` of an account."""
        account = {"key": self.account(name)["apikey"], "secret": self.account(name)["secret"]}
        return CloudStack(self.api, **{"poll_interval": 0.5, **account, **options})

    def libcloud(self, name: str, secret: str = "") -> Any:
        """Return apache-libcloud's driver of an account."""
        where, account = urlsplit(self.api), self.account(name)
        return get_driver(Provider.CLOUDSTACK)(
            account["apikey"], secret or account["secret"], secure=False,
            host=where.hostname, port=where.port, path=where.path,
        )  # fmt: skip

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(state: Path, *arguments: str) -> Iterator[Served]:
    """Serve VMs while the block runs.

    Args:
        state: folder of the server's keys and journal.
        *arguments: further words of ``sysvm serve``, ``--bundle`` among them.
    """
    command = [sys.executable, "-c", "from harness.cli import main; main()", "serve", "--json", "--port", "0"]
    with subprocess.Popen(
        [*command, "--state", str(state), *arguments], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as server:
        try:
            said = ""
            while not said.endswith("\n}\n"):
                line = server.stdout.readline() if server.stdout else ""
                assert line, "the server ended before it said where it is"
                said += line
            document = json.loads(said)
            yield Served(document["url"], document["api"], tuple(document["accounts"]), server)
        finally:
            killed = server.returncode == -signal.SIGKILL
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == (-signal.SIGKILL if killed else 0)
