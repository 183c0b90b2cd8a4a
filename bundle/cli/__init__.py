"""``sysvm bundle``: a group whose commands import what they need when they are called."""

from __future__ import annotations

import click

from bundle.cli._group import LazyCommand, LazyGroup

# Help texts stand here so that `sysvm bundle --help` imports no command.
_COMMANDS = {
    "adopt": "Make a bundle of three files that others made.",
    "build": "Build a bundle from a source tree.",
    "diff": "Say what differs between two bundles, and what it means on a VM.",
    "inspect": "Judge a foreign archive.",
    "iso": "Make the systemvm.iso of releases before 4.17.",
    "keygen": "Make a key pair for signing.",
    "show": "Show what a bundle is and what is inside.",
    "sign": "Sign a bundle.",
    "stage": "Put the files of a bundle where a host expects them, or into packages that do.",
    "verify": "Prove a bundle against its manifest, sums and signature.",
}


_ENTRIES = {name: LazyCommand(f"bundle.cli.{name}", "command", text) for name, text in _COMMANDS.items()}


@click.group(cls=LazyGroup, entries=_ENTRIES)
def bundle() -> None:
    """Build, verify, compare, sign and install patch bundles."""
