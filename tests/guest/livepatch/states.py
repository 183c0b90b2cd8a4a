"""The state of a folder tree: every path with kind, mode, owner, attributes and content; and how two of them differ."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

# path -> (kind, mode and attributes; owner; digest or link target; modification time)
State = dict[str, tuple[str, str, str, int]]


def walk_tree(top: Path) -> Iterator[Path]:
    """Yield a path and everything below it; nothing where there is none."""
    if not os.path.lexists(top):
        return
    yield top
    if top.is_dir() and not top.is_symlink():
        with os.scandir(top) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                yield from walk_tree(Path(entry.path))


def describe(path: Path, times: bool) -> tuple[str, str, str, int]:
    """Return the state of one path; with modification time 0 unless ``times``."""
    info = path.lstat()
    owner = f"{info.st_uid}:{info.st_gid}"
    if stat.S_ISLNK(info.st_mode):
        return "link", owner, str(path.readlink()), 0
    if stat.S_ISDIR(info.st_mode):
        return f"dir {stat.S_IMODE(info.st_mode):o}", owner, "", 0
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    kind = f"file {stat.S_IMODE(info.st_mode):o}"
    for name in sorted(os.listxattr(path)):
        kind += f" {name}={os.getxattr(path, name).hex()}"
    return kind, owner, content, int(info.st_mtime) if times else 0


def differences(before: State, after: State) -> list[str]:
    """Name the paths in which two states differ."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def mark(path: Path) -> None:
    """Let user 1234 read a file, by its ACL, and note something in an attribute."""
    mode, nobody = path.stat().st_mode, 0xFFFFFFFF
    rows = [
        (0x01, mode >> 6 & 7, nobody),
        (0x02, 4, 1234),
        (0x04, mode >> 3 & 7, nobody),
        (0x10, mode >> 3 & 7, nobody),
        (0x20, mode & 7, nobody),
    ]
    text = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)
    os.setxattr(path, "system.posix_acl_access", text)
    os.setxattr(path, "trusted.note", b"an operator's")
