"""Options of the commands that work on many VMs: kept ones by name, and ones that somebody else started."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bundle.cli._options import PATH, renamed
from bundle.errors import UsageError
from harness.cli import _complete

if TYPE_CHECKING:
    from harness.guest.guest import SshGuest
    from harness.kvmagent.patch import BundleFiles
    from harness.management import Target

_F = TypeVar("_F", bound=Callable[..., Any])
_WHERE = re.compile(r"(?:(?P<name>[^=\s]+)=)?(?P<host>\[[0-9a-fA-F:]+\]|[^:=\s]+):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class HostKeyWish:
    """The words of a person about the host keys of VMs that somebody else started."""

    host_keys: tuple[str, ...] = ()
    trust_first: bool = False


def host_key_options(function: _F) -> _F:
    """Add ``--host-key`` and ``--trust-first``."""
    for option in (
        click.option(
            "--trust-first", is_flag=True,
            help="With --ssh, take whatever host key an unknown VM shows first, for this command.",
        ),
        click.option(
            "--host-key", "host_keys", multiple=True, metavar="[NAME=]SHA256:...",
            help="With --ssh, the fingerprint of a VM's host key (else ssh's known hosts are asked).",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def target_options(function: _F) -> _F:
    """Add the argument VM, and ``--ssh``, ``--ssh-key``, ``--bundle`` and those about host keys."""
    function = host_key_options(function)
    for option in (
        click.option("--bundle", type=PATH, metavar="DIR", required=True, help="Folder of the bundle."),
        renamed("--key", "--ssh-key", "key", type=PATH, metavar="KEY", help="Private key for root, with --ssh."),
        click.option(
            "--ssh", "where", multiple=True, metavar="[NAME=]HOST:PORT",
            help="Where the sshd of a VM that somebody else started answers; may be given many times.",
        ),
        click.argument("names", nargs=-1, metavar="[VM]...", shell_complete=_complete.kept),
    ):  # fmt: skip
        function = option(function)
    return function


def find_targets(
    names: Sequence[str], where: Sequence[str], key: Path | None, trust: HostKeyWish | None = None
) -> list[Target]:
    """Return the VMs that arguments and options name, in their order.

    Raises:
        UsageError: a name, an address, the key or a host key is unusable, or two VMs have one name, or there is none.
    """
    from harness.management import Target

    targets = [Target(name, _kept(name)) for name in names]
    if where:
        targets += _remote(where, key, trust or HostKeyWish())
    elif trust is not None and (trust.host_keys or trust.trust_first):
        raise UsageError("--host-key and --trust-first are about VMs that --ssh names")
    if not targets:
        raise UsageError(
            "no VM is named", hint="give names of 'sysvm vm list', or --ssh HOST:PORT --ssh-key KEY"
        )
    called = [target.name for target in targets]
    if double := sorted({name for name in called if called.count(name) > 1}):
        raise UsageError(f"{double[0]!r} is there twice")
    return targets


def _kept(name: str) -> SshGuest:
    from harness.kept import listing

    return listing.find(name).guest()


def _remote(where: Sequence[str], key: Path | None, trust: HostKeyWish) -> list[Target]:
    from harness.guest.guest import SshGuest
    from harness.guest.host_keys import read_check
    from harness.management import Target

    if key is None or not key.is_file():
        raise UsageError(f"no private key at {key}" if key else "--ssh needs --ssh-key KEY")
    guests = []
    for text in where:
        match = _WHERE.fullmatch(text)
        if match is None or not 0 < int(match["port"]) < 65536:
            raise UsageError(
                f"invalid address {text!r} (expected [NAME=]HOST:PORT, such as r-10-VM=10.0.0.7:3922)"
            )
        name = match["name"] or f"{match['host']}:{match['port']}"
        guests.append((name, SshGuest(name, match["host"].strip("[]"), int(match["port"]), key)))
    check = read_check(trust.host_keys, trust_first=trust.trust_first, names=[name for name, _ in guests])
    for _, guest in guests:
        guest.host_keys = check
    return [Target(name, guest) for name, guest in guests]


def load_bundle(folder: Path) -> BundleFiles:
    """Return the bundle that an option names.

    Raises:
        UsageError: it is none.
    """
    from harness.kvmagent import patch

    return patch.load_bundle(folder)
