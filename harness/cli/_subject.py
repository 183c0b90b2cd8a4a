"""The options that name a person's own subject: what the VM runs before, and what it is patched with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from bundle.cli._options import PATH

F = TypeVar("F", bound=Callable[..., Any])
_DECORATORS = (
    click.option("--bundle", type=PATH, metavar="DIR", help="Patch with this bundle instead of our own."),
    click.option(
        "--source", type=PATH, metavar="TREE", help="Patch with the bundle of this CloudStack checkout."
    ),
    click.option(
        "--script",
        type=click.Choice(["ours", "upstream"]),
        default="upstream",
        show_default=True,
        help="For --source: the checkout's own patch script, or ours.",
    ),
    click.option(
        "--agent-jars", type=PATH, metavar="DIR", help="For checkouts: where the jars of the agent are."
    ),
    click.option(
        "--from-source",
        type=PATH,
        metavar="TREE",
        help="Build template and boot bundle from this CloudStack checkout.",
    ),
    click.option("--from-bundle", type=PATH, metavar="DIR", help="Boot with this bundle."),
    click.option(
        "--template",
        "templates",
        multiple=True,
        metavar="[R=]NAME|FILE",
        help="Boot this image of the cache, or template file, with the scripts that it has; R says of which release.",
    ),
    click.option("--mixed", is_flag=True, help="Patch scripts of one origin with a bundle of another."),
)


def subject_options(command: F) -> F:
    """Add the options to a command, which takes them as ``**subject``."""
    for decorate in reversed(_DECORATORS):
        command = decorate(command)
    return command


def subject_arguments(subject: Mapping[str, Any]) -> dict[str, str]:
    """Return the options of the plugin that say the same, with absolute paths; flags are left out.

    Args:
        subject: what the command was given.

    Raises:
        UsageError: it cannot be meant.
    """
    from harness.lab.subject import Subject

    templates = subject["templates"]
    named = {name: value for name, value in subject.items() if name != "templates"}
    Subject(**named).check(template=bool(templates))
    words = {f"--{name.replace('_', '-')}": value for name, value in named.items() if name != "mixed"}
    found = {
        name: str(value.absolute() if isinstance(value, Path) else value)
        for name, value in words.items()
        if value
    }
    if templates:
        found["--template"] = ",".join(map(_absolute, templates))
    return found


def _absolute(template: str) -> str:
    release, equals, name = template.rpartition("=")
    return f"{release}{equals}{Path(name).absolute() if Path(name).is_file() else name}"
