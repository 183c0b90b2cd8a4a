"""Options of the commands that work on VMs which somebody else started."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bundle.errors import UsageError

if TYPE_CHECKING:
    from harness.agent import BundleFiles
    from harness.management import Target

_F = TypeVar("_F", bound=Callable[..., Any])
_WHERE = re.compile(r"(?:(?P<name>[^=\s]+)=)?(?P<host>\[[0-9a-fA-F:]+\]|[^:=\s]+):(?P<port>\d{1,5})")


def target_options(function: _F) -> _F:
    """Add ``--ssh``, ``--key`` and ``--bundle``."""
    for option in (
        click.option("--bundle", type=click.Path(path_type=Path), required=True, help="Folder of the bundle."),
        click.option("--key", type=click.Path(path_type=Path), required=True, help="Private key for root."),
        click.option(
            "--ssh", "where", multiple=True, required=True, metavar="[NAME=]HOST:PORT",
            help="Where a VM's sshd answers; may be given many times.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def find_targets(where: Sequence[str], key: Path) -> list[Target]:
    """Return the VMs that the options name, in their order.

    Raises:
        UsageError: an address or the key is unusable, or two VMs have one name.
    """
    from harness.guest import Guest
    from harness.management import Target

    if not key.is_file():
        raise UsageError(f"no private key at {key}")
    targets = []
    for text in where:
        match = _WHERE.fullmatch(text)
        if match is None or not 0 < int(match["port"]) < 65536:
            raise UsageError(
                f"invalid address {text!r} (expected [NAME=]HOST:PORT, such as r-10-VM=10.0.0.7:3922)"
            )
        name = match["name"] or f"{match['host']}:{match['port']}"
        targets.append(Target(name, Guest(name, match["host"].strip("[]"), int(match["port"]), key)))
    names = [target.name for target in targets]
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{double[0]!r} is there twice")
    return targets


def load_bundle(folder: Path) -> BundleFiles:
    """Return the bundle that an option names.

    Raises:
        UsageError: it is none.
    """
    from harness import agent

    return agent.load_bundle(folder)
