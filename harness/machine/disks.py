"""Files of machines: a run's folder in the cache, and overlays."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle import programs
from bundle.errors import InfrastructureError
from harness.host.cache import WORK, cache_root
from harness.host.runtime import runs_folder

_OWNER = ".owner"


def work_folder(run_id: str) -> Path:
    """Return where the overlays of a run lie."""
    return cache_root() / WORK / run_id


def open_work(run_id: str) -> Path:
    """Return that folder, made and signed: its owner is the run's folder, which may be in any state folder."""
    folder = work_folder(run_id)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _owner(run_id).write_text(str(runs_folder() / run_id))
        folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def scratch(run_id: str) -> Iterator[Path]:
    """Yield a folder for what a run makes for itself; a killed run's goes with its overlays."""
    folder = open_work(run_id) / "lab"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # overlays of a kept VM are there
            folder.parent.rmdir()
            _owner(run_id).unlink()


def remove_work(run_id: str) -> None:
    """Remove the overlays of a run."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(work_folder(run_id))
    _owner(run_id).unlink(missing_ok=True)


def remove_ownerless_work() -> None:
    """Remove what lies in the cache for runs that are gone; other state folders on this host have runs, too."""
    for run_id in {path.name.removesuffix(_OWNER) for path in (cache_root() / WORK).glob("*")}:
        try:
            gone = not Path(_owner(run_id).read_text()).is_dir()
        except FileNotFoundError:
            gone = True
        if gone:
            remove_work(run_id)


def _owner(run_id: str) -> Path:
    return cache_root() / WORK / f"{run_id}{_OWNER}"


def make_overlay(base: Path, overlay: Path) -> None:
    """Make a qcow2 overlay on ``base``.

    Raises:
        InfrastructureError: qemu-img cannot, for instance because the disk is full.
    """
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(overlay)]
    try:
        programs.run(command, what=f"make the overlay {overlay}")
    except InfrastructureError:
        overlay.unlink(missing_ok=True)
        raise


def copy_overlay(empty: Path, overlay: Path) -> None:
    """Make an overlay by copying an empty one: no process has to start for it.

    Raises:
        InfrastructureError: the disk is full.
    """
    try:
        shutil.copyfile(empty, overlay)
    except OSError as error:
        overlay.unlink(missing_ok=True)
        raise InfrastructureError(f"cannot make the overlay {overlay}: {error.strerror}") from None


def require_room(folder: Path, need_mib: int) -> None:
    """Refuse to begin a snapshot that the disk cannot hold: QEMU dies when its RAM is a file that finds no block.

    Raises:
        InfrastructureError: there is less room.
    """
    free = shutil.disk_usage(folder).free >> 20
    if free < need_mib:
        raise InfrastructureError(
            f"a golden snapshot needs {need_mib} MiB, and {folder.parent} has {free} MiB free",
            hint="free some, run 'sysvm cache gc', or set SYSVM_CACHE to another disk",
        )


def disk_serial(disk: Path) -> str:
    """Return a disk serial of 20 hex digits, as CloudStack makes from the volume's UUID."""
    return hashlib.sha256(disk.name.encode()).hexdigest()[:20]
