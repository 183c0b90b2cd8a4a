"""``sysvm bundle``: a group whose commands import what they need when they are called."""

from __future__ import annotations

import importlib

import click

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


class _LazyGroup(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(_COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None for an unknown name."""
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"bundle.cli.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"bundle.cli.{cmd_name}.command is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command table from the names and help texts above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(cls=_LazyGroup)
def bundle() -> None:
    """Build, verify, compare, sign and install patch bundles."""
