"""The options of ``sysvm run`` about other hosts: checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from bundle.errors import UsageError

# Options that name files which no other host needs.
_OWN_FILES = ("--results=", "--known-failures=", "--balance=", "--certificates=")
_NOBODY_LOOKS = "nobody looks at those hosts"


def hosts_arguments(scheduler: str | None, certificates: Path | None, kept: Mapping[str, bool]) -> list[str]:
    """Return the plugin's options about the hosts that make the scenarios; none without a scheduler.

    Args:
        scheduler: address of ``--on``.
        certificates: folder of ``--certificates``.
        kept: options that keep or show a VM, and whether they are given.

    Raises:
        UsageError: the address is none or cannot be reached so, or an option does not go with it.
    """
    if scheduler is None:
        if certificates is not None:
            raise UsageError("--certificates is about --on")
        return []
    from harness.plugin.cluster.address import read_meeting

    source = click.get_current_context().get_parameter_source("workers")
    reasons = {word: _NOBODY_LOOKS for word, given in kept.items() if given}
    if source is ParameterSource.COMMANDLINE:
        reasons["--workers"] = "each host says how many scenarios it makes at once"
    if reasons:
        word = next(iter(reasons))
        raise UsageError(f"{word} does not go with --on: {reasons[word]}")
    meeting = read_meeting(scheduler, certificates)
    named = [f"--certificates={meeting.certificates}"] if meeting.certificates else []
    return [f"--on={scheduler}", *named]


def require_hosts(scheduler: str, certificates: Path | None, arguments: Sequence[str]) -> None:
    """Refuse hosts that are not there, have another program, or lack a file that an option names.

    Args:
        scheduler: address of ``--on``.
        certificates: folder of ``--certificates``.
        arguments: all options of the plugin.

    Raises:
        InfrastructureError: nobody answers, nobody is there, or a host has another version of this program.
        UsageError: a host lacks a file, or has another one at its path.
    """
    from harness.plugin.cluster import hosts
    from harness.plugin.cluster.address import read_meeting

    files = hosts.files_in([word for word in arguments if not word.startswith(_OWN_FILES)])
    hosts.require_hosts(read_meeting(scheduler, certificates), files)
