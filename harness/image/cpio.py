"""A cpio archive in the "newc" format, as the kernel unpacks it.

Source: kernel documentation, early-userspace/buffer-format.
"""

from __future__ import annotations

import stat
from pathlib import PurePosixPath


def archive(
    files: dict[str, bytes], *, folders: tuple[str, ...] = (), executable: tuple[str, ...] = ()
) -> bytes:
    """Return the archive: the same bytes for the same arguments, everything owned by root, times zero.

    Args:
        files: name without a leading slash, and content.
        folders: empty folders; those that files need come by themselves.
        executable: names of files with mode 0755; the others have 0644.
    """
    needed = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents} - {"."}
    parts = [_member(name, stat.S_IFDIR | 0o755, b"", 0) for name in sorted(needed | set(folders))]
    for number, (name, content) in enumerate(sorted(files.items()), start=1):
        mode = 0o755 if name in executable else 0o644
        parts.append(_member(name, stat.S_IFREG | mode, content, number))
    parts.append(_member("TRAILER!!!", 0, b"", 0))
    return b"".join(parts)


def _member(name: str, mode: int, content: bytes, inode: int) -> bytes:
    encoded = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + encoded) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
