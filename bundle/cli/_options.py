"""Options and output that the commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

PATH: click.Path = click.Path(path_type=Path)


def bundle_argument(function: _F) -> _F:
    """Add the argument DIR: a bundle folder."""
    return click.argument("folder", metavar="DIR", type=PATH)(function)


def json_option(function: _F) -> _F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine.")(function)
