"""Folders of what runs learned: ``results/<run>/``, and ``results/latest`` that points to it."""

from __future__ import annotations

import secrets
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from bundle import files
from bundle.errors import InfrastructureError, UsageError

EVENTS = "events.jsonl"
# A run of 1,680 scenarios logs 120 MB.
_LARGEST_LOG = 1 << 30


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
        return self.folder / EVENTS

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


def require_writable(root: Path) -> None:
    """Refuse a folder of runs in which none can be made, before anything starts.

    Raises:
        InfrastructureError: it cannot be made, or nothing can be written there.
    """
    there = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InfrastructureError(f"cannot make the results folder {root}: {there} is no folder")
    try:
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        raise InfrastructureError(
            f"cannot write to the results folder {there}: {error.strerror}",
            hint="name another one with --results",
        ) from None


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
    """Return the folder of an existing run.

    Args:
        run: its name, its folder, or a folder in which it lies alone, as the artifacts of a CI system do.
        root: the folder of all runs.

    Raises:
        UsageError: there is no such run, or a folder has several.
    """
    for folder in (root / run, Path(run)):
        if (folder / EVENTS).is_file():
            return ResultsFolder(folder.resolve())
    deeper = sorted(path.parent for path in Path(run).glob(f"**/{EVENTS}") if not path.parent.is_symlink())
    if len(deeper) == 1:
        return ResultsFolder(deeper[0].resolve())
    if deeper:
        names = ", ".join(map(str, deeper[:10]))
        raise UsageError(f"{run} has {len(deeper)} runs", hint=f"name one of: {names}")
    if Path(run).is_file():
        raise UsageError(f"{run} is a file, and a run is a folder", hint="unpack it and name the folder")
    raise UsageError(f"no run {str(run)!r} (looked for {EVENTS} in {root / run} and {run})")


def unpacked(archive: Path, target: Path) -> ResultsFolder:
    """Return the one run of a zip, as CI systems offer artifacts, with its event log unpacked; nothing else of it is.

    Raises:
        UsageError: it is no zip, or has no run or several.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            logs = [row for row in opened.infolist() if PurePosixPath(row.filename).name == EVENTS]
            if len(logs) != 1:
                names = ", ".join(row.filename for row in logs[:10]) or "none"
                raise UsageError(f"{archive} has {len(logs)} runs, not one", hint=f"it has: {names}")
            if logs[0].file_size > _LARGEST_LOG:
                raise UsageError(f"{archive}: {logs[0].filename} is larger than {_LARGEST_LOG >> 20} MiB")
            name = PurePosixPath(logs[0].filename).parent.name
            folder = target / (archive.stem if name in {"", ".."} else name)
            folder.mkdir(parents=True)
            (folder / EVENTS).write_bytes(opened.read(logs[0]))
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error) as error:
        raise UsageError(f"cannot read the artifact {archive}: {error}") from None
    return ResultsFolder(folder)
