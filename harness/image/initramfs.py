"""A tiny initramfs: the host's static busybox, a few files and kernel modules."""

from __future__ import annotations

from pathlib import Path

from bundle import files as whole
from bundle import programs
from harness.image import cpio

BUSYBOX = Path("/bin/busybox")


def write(path: Path, files: dict[str, bytes]) -> None:
    """Write an initramfs with busybox at ``bin/busybox`` and ``files``; those in ``bin/`` and ``init`` are executable.

    Args:
        path: where to; appears complete, by rename.
        files: name without a leading slash, and content.

    Raises:
        InfrastructureError: busybox-static is not installed.
    """
    try:
        members = {"bin/busybox": BUSYBOX.read_bytes(), **files}
    except FileNotFoundError:
        raise programs.lacks(str(BUSYBOX), f"make {path}") from None
    executable = tuple(name for name in members if name == "init" or name.startswith("bin/"))
    archive = cpio.archive(members, folders=("dev", "proc", "sys", "tmp", "etc"), executable=executable)
    whole.write(path, archive)
