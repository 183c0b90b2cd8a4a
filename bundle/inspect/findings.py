"""Judge a foreign archive: what a careful packager would not ship, and what no system VM should unpack."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from bundle.archive.entries import ArchiveEntry
from bundle.archive.modes import is_secret
from bundle.archive.text import breaks_in_guest

Level = Literal["danger", "warning", "note"]
LEVELS: tuple[Level, ...] = ("danger", "warning", "note")
_PRIVATE_FOLDERS = ("root", "root/.ssh")


@dataclass(frozen=True)
class ArchiveFinding:
    """One observation about one entry."""

    level: Level
    code: str
    path: str
    message: str


def _name(entry: ArchiveEntry) -> Iterator[tuple[Level, str, str]]:
    parts = entry.path.split("/")
    if entry.path.startswith("/"):
        yield "danger", "absolute-path", "the path is absolute"
    if ".." in parts:
        yield "danger", "escaping-path", "the path leads out of the folder that it is unpacked in"
    if any(ord(char) < 32 or ord(char) == 127 for char in entry.path):
        yield "danger", "control-characters", "the name has control characters"
    if "\\" in entry.path:
        yield "warning", "backslash", "the name has a backslash, which some programs take for a slash"
    if any(0xDC80 <= ord(char) <= 0xDCFF for char in entry.path):
        yield "warning", "not-utf8", "the name is not UTF-8"
    if entry.path in {"", "."} or parts[0] == ".":
        yield "note", "dot-path", "the path begins with '.'"


def _kind(entry: ArchiveEntry) -> Iterator[tuple[Level, str, str]]:
    if entry.kind == "device":
        yield "danger", "device", "a device or pipe"
    elif entry.kind in {"symlink", "hardlink"}:
        escapes = entry.target.startswith("/") or ".." in entry.target.split("/")
        level: Level = "danger" if escapes else "warning"
        yield level, entry.kind, f"a {entry.kind} to {entry.target!r}; a bundle has none"
    elif entry.kind == "other":
        yield "danger", "unknown-kind", "an entry of a kind that system VMs do not know"


def _mode(entry: ArchiveEntry) -> Iterator[tuple[Level, str, str]]:
    if entry.mode & stat.S_ISUID:
        yield "danger", "setuid", f"set-user-id (mode {entry.mode:04o})"
    if entry.mode & stat.S_ISGID:
        yield "danger", "setgid", f"set-group-id (mode {entry.mode:04o})"
    if entry.mode & stat.S_IWOTH:
        yield "danger", "world-writable", f"anyone may write it (mode {entry.mode:04o})"
    if entry.owner != (0, 0):
        yield "warning", "owner", f"belongs to {entry.owner[0]}:{entry.owner[1]} and not to root"
    if entry.kind == "dir":
        if entry.path in _PRIVATE_FOLDERS and entry.mode & 0o077:
            yield "warning", "root-widened", f"unpacking opens /{entry.path} to all (mode {entry.mode:04o})"
        return
    if entry.kind != "file":
        return
    executable = bool(entry.mode & 0o111)
    if entry.path.endswith((".service", ".timer", ".socket", ".mount", ".path")) and executable:
        yield "warning", "executable-unit", f"a systemd unit that is executable (mode {entry.mode:04o})"
    if is_secret(entry.path) and entry.mode & 0o077:
        yield "warning", "readable-secret", f"a secret that others may read (mode {entry.mode:04o})"
    if entry.head.startswith(b"#!") and not executable:
        yield (
            "note",
            "script-not-executable",
            f"begins with '#!' and is not executable (mode {entry.mode:04o})",
        )


def _content(entry: ArchiveEntry) -> Iterator[tuple[Level, str, str]]:
    if entry.kind == "file" and breaks_in_guest(entry.path, entry.head):
        yield "danger", "cr-lf", "CR LF line ends: no system VM can run it"


def judge(entries: Iterable[ArchiveEntry]) -> Iterator[ArchiveFinding]:
    """Yield the findings about the entries of one archive, in their order."""
    seen: dict[str, str] = {}
    for entry in entries:
        for level, code, message in (*_name(entry), *_kind(entry), *_mode(entry), *_content(entry)):
            yield ArchiveFinding(level, code, entry.path, message)
        plain = entry.path.removeprefix("./")
        if plain in seen and (entry.kind != "dir" or seen[plain] != "dir"):
            yield ArchiveFinding(
                "warning", "duplicate", entry.path, "appears again; the last one wins when it is unpacked"
            )
        seen[plain] = entry.kind
