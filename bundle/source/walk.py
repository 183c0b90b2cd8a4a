"""Walk a source tree and refuse what cannot be shipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bundle.archive.members import Item
from bundle.errors import UsageError

# Names that version control, editors and Python leave behind. The first group is what Ant excludes by
# default.
_LEFTOVERS = frozenset(
    {"CVS", ".cvsignore", "SCCS", "vssver.scc", ".svn", ".git", ".gitattributes", ".gitignore", ".gitmodules"}
    | {".hg", ".hgignore", ".hgsub", ".hgsubstate", ".hgtags", ".bzr", ".bzrignore", ".DS_Store"}
    | {"__pycache__", ".classpath", ".project", "wscript_build"}
)


def is_leftover(name: str) -> bool:
    """Say whether a file or folder of this name is never shipped."""
    return (
        name in _LEFTOVERS
        or name.endswith(("~", ".pyc"))
        or name.startswith((".#", "._"))
        or (len(name) > 1 and name[0] == name[-1] and name[0] in "#%")
    )


def check_name(name: str, where: Path | str) -> None:
    """Refuse a name that a manifest line or an archive header cannot carry.

    Raises:
        UsageError: the name has control characters or is not UTF-8.
    """
    if not name.isprintable() and any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in name):
        raise UsageError(f"{where}: the name {name!r} has control characters", hint="rename the file")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where}: the name {name!r} is not UTF-8", hint="rename the file") from None


def _kind(entry: os.DirEntry[str], boundary: Path) -> str:
    """Return ``file`` or ``dir``; a link counts as the file inside the tree that it leads to."""
    if entry.is_symlink():
        target = Path(os.path.realpath(entry.path))
        if not target.is_relative_to(boundary):
            raise UsageError(f"{entry.path}: the symbolic link leaves the tree (it leads to {target})")
        if not target.is_file():
            raise UsageError(f"{entry.path}: the symbolic link does not lead to a regular file")
        return "file"
    if entry.is_dir(follow_symlinks=False):
        return "dir"
    if entry.is_file(follow_symlinks=False):
        return "file"
    raise UsageError(
        f"{entry.path}: neither a file nor a folder (a device, a socket or a pipe cannot be shipped)"
    )


def walk(root: Path, *, boundary: Path | None = None) -> Iterator[Item]:
    """Yield everything below ``root`` with paths relative to it, folders first, names in order.

    Args:
        root: the folder to walk; it is not yielded itself.
        boundary: symbolic links may lead to regular files inside this folder; defaults to ``root``.

    Raises:
        UsageError: something below ``root`` cannot be shipped or not be read.
    """
    limit = Path(os.path.realpath(boundary or root))
    pending = [("", os.fspath(root))]
    while pending:
        prefix, folder = pending.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise UsageError(f"{folder}: {error.strerror}") from error
        for entry in entries:
            if is_leftover(entry.name):
                continue
            check_name(entry.name, folder)
            path = prefix + entry.name
            if _kind(entry, limit) == "dir":
                yield Item(path, None)
                pending.append((path + "/", entry.path))
            else:
                yield Item(path, Path(entry.path))
