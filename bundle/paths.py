"""Places of the reference payload: in a checkout beside the package, in an installation inside it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def payload_root() -> Path:
    """Return the folder ``systemvm/`` of the reference payload."""
    installed = _PACKAGE / "_systemvm"
    return installed if installed.is_dir() else _PACKAGE.parent / "systemvm"


def cache_place() -> Path:
    """Return where the caches of this user lie, made or not: ``SYSVM_CACHE``, or where the system keeps them."""
    if chosen := os.environ.get("SYSVM_CACHE"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/sysvm-livepatch")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sysvm-livepatch"
