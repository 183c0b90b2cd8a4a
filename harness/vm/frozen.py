"""The files of a golden snapshot: where what one machine needs lies in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.machine.technique import Technique

# The system VM's own machine among those of a snapshot; the others are called like their tenant guests.
SYSTEM = "system"
# The bundle of a release whose system VMs read it from a CD drive (before 4.17).
CD = "systemvm.iso"


@dataclass(frozen=True)
class Frozen:
    """Files of one machine in a golden snapshot."""

    ram: Path | None
    state: Path
    disk: Path | None
    overlay: Path | None  # an empty one on the disk, for every restore to copy


def frozen_in(folder: Path, name: str, technique: Technique) -> Frozen:
    """Return the names for machine ``name`` in a snapshot's folder; ``technique`` says where its RAM lies."""
    return Frozen(
        folder / f"{name}.ram" if technique == "shared-ram" else None,
        folder / f"{name}.state",
        folder / f"{name}.qcow2" if name == SYSTEM else None,
        folder / f"{name}.overlay" if name == SYSTEM else None,
    )


def cd_in(folder: Path | None) -> Path | None:
    """Return the image in the CD drive of a snapshot's machine, if it has one."""
    return folder / CD if folder and (folder / CD).exists() else None
