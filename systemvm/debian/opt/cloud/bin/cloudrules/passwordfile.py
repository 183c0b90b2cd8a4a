"""The passwords that wait for their VMs, one file for each address that the password server listens on.

Rules add entries while the server removes them, so both hold a lock on the file beside it.
"""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, Optional

from . import system

FOLDER = Path("/var/cache/cloud")


def path_of(server: str) -> Path:
    """Return the file of a server address."""
    return FOLDER / f"passwords-{server}"


@contextmanager
def _locked(server: str) -> Iterator[Path]:
    path = path_of(server)
    with open(f"{path}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def _read(path: Path) -> Dict[str, str]:
    # Not splitlines(): a password may hold characters that end a line for it.
    lines = filter(None, (system.read_text(path) or "").split("\n"))
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def _write(path: Path, entries: Dict[str, str]) -> bool:
    return system.write_text(
        path, "".join("{}={}\n".format(*entry) for entry in sorted(entries.items())), 0o600
    )


def get(server: str, address: str) -> Optional[str]:
    """Return the password that waits for a VM."""
    return _read(path_of(server)).get(address)


def put(server: str, address: str, password: str) -> bool:
    """Let a password wait for a VM; return whether it is a new one."""
    with _locked(server) as path:
        return _write(path, dict(_read(path), **{address: password}))


def remove(server: str, address: str) -> None:
    """Forget the password of a VM that has fetched it."""
    with _locked(server) as path:
        entries = _read(path)
        if entries.pop(address, None) is not None:
            _write(path, entries)
