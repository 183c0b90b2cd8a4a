"""Put the files of a bundle where a host expects them, keep what was there, and switch by rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bundle import layout
from bundle.archive import output
from bundle.archive.digest import file_digest
from bundle.errors import CheckFailed, UsageError
from bundle.inspect.verify import verify
from bundle.seal.manifest import Manifest


@dataclass(frozen=True)
class Layout:
    """Where one kind of host keeps the files, with which mode."""

    folder: str
    mode: int


# CloudStack's own packages: cloudstack-common on management servers and KVM hosts, the patch lists of
# XenServer and XCP-ng.
LAYOUTS = {
    "management": Layout("usr/share/cloudstack-common/vms", 0o644),
    "kvm": Layout("usr/share/cloudstack-common/vms", 0o644),
    "xenserver": Layout("opt/xensource/packages/resources", 0o644),
}
BACKUP = ".sysvm-livepatch-backup"


@dataclass(frozen=True)
class Staged:
    """What was put where: the installed files, and the folder with the former ones (None when there were none)."""

    files: tuple[Path, ...]
    backup: Path | None


def _place(root: Path, layout_name: str) -> Path:
    """Return the folder for the files below ``root``; a link on the way may not lead out of it."""
    limit = root.resolve()
    place = limit / LAYOUTS[layout_name].folder
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


def _same(found: Manifest, place: Path, mode: int) -> bool:
    """Say whether exactly these files are installed already."""
    for name in layout.PAYLOAD:
        path = place / name
        if not path.is_file() or path.stat().st_mode & 0o7777 != mode:
            return False
        if (
            path.stat().st_size != found.files[name].size
            or file_digest(path, "sha512") != found.files[name].sha512
        ):
            return False
    return True


def stage(folder: Path, layout_name: str, root: Path, trust: Path | None = None) -> Staged:
    """Install the three files of a bundle below ``root``; each of them is old or new at any moment, never cut.

    Args:
        folder: the bundle, which is verified first.
        layout_name: a key of ``LAYOUTS``.
        root: ``/`` of the host, or of the tree that becomes one.
        trust: the public key that must have signed the bundle; None checks no signature.

    Raises:
        CheckFailed: the bundle does not verify, or an installed file is not what was staged.
        UsageError: the root does not exist.
        InfrastructureError: the place cannot be written.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    found = verify(folder, trust).manifest
    place, mode = _place(root, layout_name), LAYOUTS[layout_name].mode
    targets = tuple(place / name for name in layout.PAYLOAD)
    if _same(found, place, mode):
        return Staged(targets, None)
    with output.errors(place):
        output.make_folders(place)
        backup = _keep(place, layout.PAYLOAD)
        scratch = Path(tempfile.mkdtemp(prefix=".sysvm-livepatch-new.", dir=place))
        try:
            for name in layout.PAYLOAD:
                new = scratch / name
                shutil.copyfile(folder / name, new)
                new.chmod(mode)
                if file_digest(new, "sha512") != found.files[name].sha512:
                    raise CheckFailed(f"{folder}: {name} changed while it was staged")
                with new.open("rb") as file:
                    os.fsync(file.fileno())
            for name in layout.PAYLOAD:
                (scratch / name).replace(place / name)
            handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return Staged(targets, backup)
