"""Put the files of a bundle where a host expects them, keep what was there, and switch by rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bundle import layout
from bundle.archive import output
from bundle.archive.digest import file_digest
from bundle.errors import CheckFailed, UsageError
from bundle.inspect.trio import is_installed
from bundle.inspect.verify import verify
from bundle.seal.manifest import Manifest, load
from bundle.ship.layouts import HostLayout, files_for, layout_of
from bundle.version import span

BACKUP = ".sysvm-livepatch-backup"


@dataclass(frozen=True)
class Staged:
    """Files that were staged: the installed ones, and the folder with the former ones (None when there were none)."""

    files: tuple[Path, ...]
    backup: Path | None


def _place(root: Path, target: HostLayout) -> Path:
    """Return the folder for the files below ``root``; a link on the way may not lead out of it."""
    limit = root.resolve()
    place = limit / target.folder
    if not place.resolve().is_relative_to(limit):
        raise UsageError(f"{place}: a symbolic link leads out of {root}")
    return place


def _keep(place: Path, names: tuple[str, ...]) -> Path | None:
    """Copy the present files into a backup folder that appears by one rename; returns it."""
    present = [name for name in names if (place / name).exists()]
    if not present:
        return None
    backup = place / BACKUP
    with output.folder(backup, lambda _: True) as new:
        for name in present:
            shutil.copy2(place / name, new / name)
    return backup


def _same(files: dict[str, Path], place: Path, target: HostLayout) -> bool:
    """Say whether exactly these files are installed already."""
    for name, source in files.items():
        path = place / name
        if not path.is_file() or path.stat().st_mode & 0o7777 != target.mode:
            return False
        if file_digest(path, "sha512") != file_digest(source, "sha512"):
            return False
    return not any((place / name).exists() for name in target.beside if name not in files)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _switch(files: dict[str, Path], place: Path, target: HostLayout, digests: dict[str, str]) -> None:
    """Copy the files beside their places and rename them; what the host reads comes before what proves it."""
    scratch = Path(tempfile.mkdtemp(prefix=".sysvm-livepatch-new.", dir=place))
    try:
        for name, source in files.items():
            new = scratch / name
            shutil.copyfile(source, new)
            new.chmod(target.mode)
            if name in digests and file_digest(new, "sha512") != digests[name]:
                raise CheckFailed(f"{source.parent}: {name} changed while it was staged")
            _sync(new)
        for name in target.beside:
            with contextlib.suppress(FileNotFoundError):
                (place / name).unlink()
        for name in files:
            (scratch / name).replace(place / name)
        _sync(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_older(found: Manifest, place: Path) -> None:
    """Refuse what is older than the bundle that is installed: by release, and by build number of one release."""
    if not is_installed(place):
        return
    old, new = load(place / layout.MANIFEST).facts, found.facts
    both = old.build and new.build
    if span(new.version) < span(old.version):
        older = f"release {new.version} is older than the installed {old.version}"
    elif new.version == old.version and both and new.build < old.build:
        older = f"build {new.build} of {new.version} is older than the installed build {old.build}"
    else:
        return
    raise CheckFailed(f"{place}: {older}", hint="--allow-downgrade permits it")


def stage(
    folder: Path, kind: str, root: Path, trust: Path | None = None, *, allow_downgrade: bool = False
) -> Staged:
    """Install the files of a bundle below ``root``; each of them is old or new at any moment, never cut.

    Args:
        folder: the bundle, which is verified first.
        kind: one of ``layouts.KINDS``.
        root: ``/`` of the host, or of the tree that becomes one.
        trust: the public key that must have signed the bundle; None checks no signature.
        allow_downgrade: whether an older release, or an older build of one release, may take the place of a newer.

    Raises:
        CheckFailed: the bundle does not verify, is older than what is installed, or changed meanwhile.
        UsageError: the root does not exist.
        InfrastructureError: the place cannot be written.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    found = verify(folder, trust).manifest
    target = layout_of(kind, found.facts.release)
    place = _place(root, target)
    if not allow_downgrade:
        _check_older(found, place)
    with tempfile.TemporaryDirectory() as scratch:
        files = files_for(folder, found, target, Path(scratch))
        targets = tuple(place / name for name in files)
        if _same(files, place, target):
            return Staged(targets, None)
        with output.errors(place):
            output.make_folders(place)
            backup = _keep(place, (*target.names, *target.beside))
            _switch(files, place, target, {name: fact.sha512 for name, fact in found.files.items()})
    return Staged(targets, backup)
