"""Folders of a run: sockets and logs of its machines, owned by a lock that dies with its holder."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundle import files
from harness.host import locks


def state_root() -> Path:
    """Return the folder of everything that must not outlive a reboot.

    ``SYSVM_STATE`` overrides; it must be short, since UNIX socket names hold 107 bytes.
    """
    if override := os.environ.get("SYSVM_STATE"):
        root = Path(override)
    elif os.geteuid() == 0:
        root = Path("/run/sysvm-livepatch")
    else:
        root = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/sysvm-{os.getuid()}") / "sysvm-livepatch"  # noqa: S108 - owner is checked below
    root.mkdir(parents=True, exist_ok=True)
    if root.stat().st_uid != os.geteuid():
        raise PermissionError(f"{root} belongs to another user")
    return root


@dataclass(frozen=True)
class RuntimeFolder:
    """The folder of one run; ``id`` is part of every domain name of that run."""

    id: str
    path: Path

    def machine(self, name: str) -> Path:
        """Return the folder of one machine of this run."""
        return self.path / name


def runs_folder() -> Path:
    """Return the folder that holds one folder a run."""
    return state_root() / "runs"


@contextmanager
def open_run() -> Iterator[RuntimeFolder]:
    """Make a run folder that others can see to be in use; it is removed at the end unless machines are kept."""
    run_id = secrets.token_hex(3)
    path = runs_folder() / run_id
    path.mkdir(parents=True)
    # QEMU's user passes through; names are unguessable enough and the contents carry their own modes.
    path.chmod(0o711)
    handle = locks.try_exclusive(path / "lock")
    if handle is None:
        raise RuntimeError(f"run folder {path} is not new")
    try:
        yield RuntimeFolder(run_id, path)
    finally:
        if not kept(path):
            shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def keep(path: Path, facts: dict[str, object]) -> None:
    """Mark a run folder as kept by a person, with the facts that a later command needs."""
    files.write(path / "kept.json", json.dumps(facts, indent=1))


def kept(path: Path) -> bool:
    """Say whether a person keeps the machines of this run."""
    return (path / "kept.json").exists()


def abandoned() -> Iterator[RuntimeFolder]:
    """Yield the runs whose holder is gone and that nobody keeps, each locked while it is yielded."""
    for path in sorted(runs_folder().glob("*")) if runs_folder().is_dir() else ():
        if kept(path):
            continue
        handle = locks.try_exclusive(path / "lock")
        if handle is None:
            continue
        try:
            yield RuntimeFolder(path.name, path)
        finally:
            os.close(handle)
