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
from bundle.errors import UsageError
from harness.host import locks, private

# In the folder of a run that could not see whether everything of it has ended.
_LEFT = "left"


def state_root() -> Path:
    """Return the folder of everything that must not outlive a reboot.

    ``SYSVM_STATE`` overrides; it must be short, since UNIX socket names hold 107 bytes. It is closed to others, and so
    is the folder above it where that is one of ours below ``/tmp``, which anybody else could have made.

    Raises:
        InfrastructureError: it is another user's, or others may write to it.
        UsageError: it is a folder of other things.
    """
    root = state_place()
    if root.parent == _temporary():
        private.closed_folder(root.parent)
    if os.environ.get("SYSVM_STATE") and _is_shared(root):
        raise UsageError(
            f"SYSVM_STATE={root} has other things in it, and would be closed to others",
            hint="name a folder in it",
        )
    return private.closed_folder(root)


def _is_shared(root: Path) -> bool:
    """Return whether a folder that others may look into holds anything else than what is ours."""
    if not root.is_dir() or not root.stat().st_mode & 0o007:
        return False
    return any(root.iterdir()) and not (root / "runs").is_dir()


def state_place() -> Path:
    """Return where that folder is, made or not."""
    if override := os.environ.get("SYSVM_STATE"):
        return Path(override).absolute()
    if os.geteuid() == 0:
        return Path("/run/sysvm-livepatch")
    given = os.environ.get("XDG_RUNTIME_DIR")
    return (Path(given) if given else _temporary()) / "sysvm-livepatch"


def _temporary() -> Path:
    return Path(f"/tmp/sysvm-{os.getuid()}")  # noqa: S108 - owner and mode are checked before it is used


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
        if not kept(path) and not (path / _LEFT).exists():
            shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def leave(path: Path) -> None:
    """Leave a run folder to the next command, as a killed run does: not all that was started may have been ended."""
    (path / _LEFT).touch()


def keep(path: Path, facts: dict[str, object]) -> None:
    """Mark a run folder as kept by a person, with the facts that a later command needs."""
    files.write(path / "kept.json", json.dumps(facts, indent=1))


def kept(path: Path) -> bool:
    """Say whether a person keeps the machines of this run."""
    return (path / "kept.json").exists()


def has_abandoned() -> bool:
    """Return whether a killed run left its folder behind; makes no folder, and trusts none of another user's."""
    place = state_place() / "runs"
    try:
        if place.parent.lstat().st_uid != os.geteuid() or not place.is_dir():
            return False
    except OSError:
        return False
    return any(True for _ in abandoned())


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
