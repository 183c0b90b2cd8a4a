"""Folders of what runs learned: ``results/<run>/``, and ``results/latest`` that points to it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bundle import files
from bundle.errors import InfrastructureError, UsageError


@dataclass(frozen=True)
class ResultsFolder:
    """The folder of one run."""

    folder: Path

    @property
    def name(self) -> str:
        """The run's name, which is the folder's."""
        return self.folder.name

    @property
    def events(self) -> Path:
        """The event log."""
        return self.folder / "events.jsonl"

    def log(self, name: str) -> Path:
        """Return the path of a log of a VM, such as ``r-10-VM/console.log``, with its folder made."""
        path = self.folder / "logs" / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"a log may not lie outside the run's folder: {name!r}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def new_name() -> str:
    """Return a name for a run that sorts by time and is hardly taken: ``20260131-142501-9f3c``."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def create(root: Path = Path("results"), name: str | None = None) -> ResultsFolder:
    """Make the folder of a run and let ``latest`` point to it.

    Args:
        root: the folder of all runs; made when missing.
        name: the run's name; a new one when None.

    Raises:
        UsageError: the name is no plain file name, or is taken.
        InfrastructureError: the folder cannot be made.
    """
    run = name or new_name()
    if run in {"latest", ".", ".."} or "/" in run or not run.isprintable():
        raise UsageError(f"invalid name of a run {run!r} (expected a plain file name other than 'latest')")
    while not _made(root / run):
        if name:
            raise UsageError(f"the run {run!r} is already there: {root / run}")
        run = new_name()
    point_latest(root, run)
    return ResultsFolder(root / run)


def _made(folder: Path) -> bool:
    """Make a folder; says whether it was not there yet."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        if folder.parent.is_dir():
            return False
        raise InfrastructureError(f"cannot make the results folder {folder}: no folder above it") from None
    except OSError as error:
        raise InfrastructureError(f"cannot make the results folder {folder}: {error.strerror}") from None
    return True


def point_latest(root: Path, run: str) -> None:
    """Switch ``root/latest`` to a run by rename, so that a reader finds either the old one or the new one."""
    with files.appearing(root / "latest") as beside:
        beside.symlink_to(run)


def find(run: str | Path = "latest", root: Path = Path("results")) -> ResultsFolder:
    """Return the folder of an existing run, by its name or by its path.

    Raises:
        UsageError: there is no such run.
    """
    for folder in (root / run, Path(run)):
        if (folder / "events.jsonl").is_file():
            return ResultsFolder(folder.resolve())
    raise UsageError(f"no run {str(run)!r} (looked for events.jsonl in {root / run} and {run})")
