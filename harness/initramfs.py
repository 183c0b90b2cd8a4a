"""A tiny initramfs: the host's static busybox, a few files and kernel modules, as a cpio archive."""

from __future__ import annotations

import stat
from pathlib import Path

from bundle.errors import InfrastructureError

BUSYBOX = Path("/bin/busybox")


def write(path: Path, files: dict[str, bytes]) -> None:
    """Write an initramfs with busybox at ``bin/busybox`` and ``files``; names in ``init`` and ``bin/`` are executable.

    Args:
        path: where to; appears complete, by rename.
        files: name without a leading slash, and content.

    Raises:
        InfrastructureError: busybox-static is not installed.
    """
    try:
        members = {"bin/busybox": BUSYBOX.read_bytes(), **files}
    except FileNotFoundError:
        raise InfrastructureError(
            f"{BUSYBOX} is missing", hint="install the package busybox-static"
        ) from None
    folders = {parent.as_posix() for name in members for parent in Path(name).parents} - {"."}
    archive = bytearray()
    inode = 1
    for folder in sorted(folders | {"dev", "proc", "sys", "tmp", "etc"}):
        archive += _entry(folder, stat.S_IFDIR | 0o755, b"", inode)
        inode += 1
    for name, content in sorted(members.items()):
        executable = name == "init" or name.startswith("bin/")
        archive += _entry(name, stat.S_IFREG | (0o755 if executable else 0o644), content, inode)
        inode += 1
    archive += _entry("TRAILER!!!", 0, b"", 0)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(archive)
    temporary.replace(path)


def _entry(name: str, mode: int, content: bytes, inode: int) -> bytes:
    """Return one entry in the "newc" format (kernel documentation, early-userspace/buffer-format)."""
    encoded = name.encode() + b"\0"
    numbers = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08x" % number for number in numbers)
    return _padded(header + encoded) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
