"""``sysvm completion``: what makes a shell complete commands, options and their values."""

from __future__ import annotations

import click

from bundle.sink import tell

_VARIABLE = "_SYSVM_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    Put this into ~/.bashrc, and the like for other shells: eval "$(sysvm completion bash)"
    """
    from click.shell_completion import get_completion_class

    from harness.cli import sysvm

    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"click completes no {shell}")
    # Not source(): it asks the shell for its version first, and a host without that shell may still print the script.
    script = made(sysvm, {}, "sysvm", _VARIABLE)
    tell(script.source_template % script.source_vars())
