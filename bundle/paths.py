"""Where the reference payload lies: in a checkout beside the package, in an installation inside it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def payload_root() -> Path:
    """Return the folder ``systemvm/`` of the reference payload."""
    installed = _PACKAGE / "_systemvm"
    return installed if installed.is_dir() else _PACKAGE.parent / "systemvm"
