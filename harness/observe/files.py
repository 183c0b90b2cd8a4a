"""The full state of folders in a guest: each path's type, mode, owner, link target, content and attributes.

One command in the guest makes it (``find``, ``sha256sum``, and ``getfattr`` where it is installed), so it
works in a guest without Python. Two snapshots give a diff that a person can read.
"""

from __future__ import annotations

import fnmatch
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Literal, TypeAlias

from bundle.errors import InfrastructureError
from harness.guest.collect import Section, collect
from harness.guest.protocols import Guest

# What a live patch may touch, and where a rollback must leave no trace.
FOLDERS = ("/etc", "/opt", "/root", "/usr/local/cloud", "/var/cache/cloud", "/usr/share/cloud")

_TYPES = {
    "f": "file", "d": "folder", "l": "link", "p": "pipe", "s": "socket", "b": "block device", "c": "device"
}  # fmt: skip
_UNKNOWN_HASH = "unreadable"

Change: TypeAlias = Literal["added", "removed", "type", "content", "mode", "owner", "link", "attributes"]


@dataclass(frozen=True)
class Entry:
    """One path. ``sha256`` is set for files, ``link`` for symbolic links."""

    path: str
    type: str
    mode: int
    owner: str
    group: str
    link: str = ""
    sha256: str = ""
    xattrs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """The state of folders at one moment. ``with_xattrs`` says whether the guest could list attributes."""

    folders: tuple[str, ...]
    entries: Mapping[str, Entry]
    with_xattrs: bool = False

    def __contains__(self, path: str) -> bool:
        return path in self.entries

    def without_volatile(self) -> Snapshot:
        """Return the snapshot without the paths of ``volatile.toml``."""
        kept = {path: entry for path, entry in self.entries.items() if volatile_reason(path) is None}
        return Snapshot(self.folders, kept, self.with_xattrs)


@dataclass(frozen=True)
class Difference:
    """One way in which one path differs; ``before`` and ``after`` are readable values."""

    path: str
    change: Change
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        """Return the line for a person."""
        if self.change in {"added", "removed"}:
            return f"{self.path}: {self.change} ({self.before or self.after})"
        return f"{self.path}: {self.change} {self.before} -> {self.after}"


@dataclass(frozen=True)
class Volatile:
    """A pattern of ``volatile.toml`` with its reason."""

    pattern: str
    reason: str
    regex: re.Pattern[str] = field(repr=False)


@cache
def volatile() -> tuple[Volatile, ...]:
    """Return the reviewed list of paths that may differ."""
    document = tomllib.loads((files("harness.observe") / "volatile.toml").read_text(encoding="utf-8"))
    return tuple(
        Volatile(row["pattern"], row["reason"], re.compile(fnmatch.translate(row["pattern"])))
        for row in document["path"]
    )


def volatile_reason(path: str) -> str | None:
    """Return why a path may differ, or None when it may not."""
    return next((row.reason for row in volatile() if row.regex.match(path)), None)


def commands(folders: Sequence[str] = FOLDERS) -> dict[str, str]:
    """Return the commands that :func:`parse` reads; they may be part of a larger collection."""
    roots = " ".join(shlex.quote(folder) for folder in folders)
    present = (
        f'roots=(); for r in {roots}; do [ -e "$r" ] && roots+=("$r"); done; '
        '[ "${#roots[@]}" -gt 0 ] || exit 0; '
    )
    fields = r"%y\0%m\0%u\0%g\0%p\0%l\0"
    return {
        "state.paths": f"{present}find \"${{roots[@]}}\" -printf '{fields}'",
        "state.hashes": f'{present}find "${{roots[@]}}" -type f -print0 | xargs -0 -r sha256sum -z --',
        "state.xattrs": f'{present}getfattr -R -P -h -d -m - -e hex --absolute-names -- "${{roots[@]}}"',
    }


def take(guest: Guest, folders: Sequence[str] = FOLDERS, *, deadline: float = 180.0) -> Snapshot:
    """Return the state of folders in a guest; a folder that is not there is empty.

    Raises:
        InfrastructureError: the guest cannot say, or its answer is incomplete.
    """
    return parse(collect(guest, commands(folders), deadline=deadline), folders, name=guest.name)


def parse(
    sections: Mapping[str, Section], folders: Sequence[str] = FOLDERS, *, name: str = "guest"
) -> Snapshot:
    """Turn the outputs of :func:`commands` into a snapshot.

    A file that vanished between listing and reading is ``unreadable``, which differs from any content.

    Raises:
        InfrastructureError: the listing is incomplete.
    """
    listing = sections["state.paths"].text
    values = listing.split("\0")
    if (listing and not listing.endswith("\0")) or (len(values) - 1) % 6:
        raise InfrastructureError(f"{name}: the listing of {', '.join(folders)} is incomplete")
    hashes = dict(_hashes(sections["state.hashes"].text))
    attributes = sections["state.xattrs"]
    xattrs = parse_xattrs(attributes.text)
    entries = {}
    for kind, mode, owner, group, path, link in zip(*(values[i:-1:6] for i in range(6)), strict=True):
        entries[path] = Entry(
            path=path,
            type=_TYPES.get(kind, kind),
            mode=int(mode, 8),
            owner=owner,
            group=group,
            link=link,
            sha256=hashes.get(path, _UNKNOWN_HASH) if kind == "f" else "",
            xattrs=xattrs.get(path, ()),
        )
    return Snapshot(tuple(folders), entries, with_xattrs=attributes.status != 127)


def _hashes(text: str) -> Iterator[tuple[str, str]]:
    for record in text.split("\0"):
        digest, found, path = record.partition("  ")
        if found:
            yield path, digest


def parse_xattrs(text: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Parse what ``getfattr -d -e hex --absolute-names`` prints: extended attributes by path."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    path = ""
    for line in text.splitlines():
        if line.startswith("# file: "):
            path = _unescape(line.removeprefix("# file: "))
        elif line and path:
            name, _, value = line.partition("=")
            found[path] = (*found.get(path, ()), (_unescape(name), value))
    return found


def _unescape(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    plain = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), raw)
    return plain.decode("utf-8", "surrogateescape")


def diff(before: Snapshot, after: Snapshot) -> tuple[Difference, ...]:
    """Return every difference between two snapshots, sorted by path, volatile paths left out.

    Attributes are compared only when both guests could list them.
    """
    with_xattrs = before.with_xattrs and after.with_xattrs
    old, new = before.without_volatile().entries, after.without_volatile().entries
    return tuple(
        difference
        for path in sorted(old.keys() | new.keys())
        for difference in _compare(old.get(path), new.get(path), with_xattrs)
    )


def _compare(old: Entry | None, new: Entry | None, with_xattrs: bool) -> Iterator[Difference]:
    if old is None or new is None:
        if old is not None:
            yield Difference(old.path, "removed", before=_describe(old))
        elif new is not None:
            yield Difference(new.path, "added", after=_describe(new))
        return
    path = new.path
    if old.type != new.type:
        yield Difference(path, "type", old.type, new.type)
    elif old.sha256 != new.sha256 or _UNKNOWN_HASH in {old.sha256, new.sha256}:
        yield Difference(path, "content", old.sha256[:12], new.sha256[:12])
    if old.link != new.link:
        yield Difference(path, "link", old.link or "none", new.link or "none")
    if old.mode != new.mode:
        yield Difference(path, "mode", f"{old.mode:04o}", f"{new.mode:04o}")
    if (old.owner, old.group) != (new.owner, new.group):
        yield Difference(path, "owner", f"{old.owner}:{old.group}", f"{new.owner}:{new.group}")
    if with_xattrs and old.xattrs != new.xattrs:
        yield Difference(path, "attributes", _attributes(old), _attributes(new))


def _describe(entry: Entry) -> str:
    return f"{entry.type}, {entry.mode:04o}, {entry.owner}:{entry.group}"


def _attributes(entry: Entry) -> str:
    return ",".join(f"{name}={value}" for name, value in entry.xattrs) or "none"


def readable(differences: Iterable[Difference], limit: int = 40) -> list[str]:
    """Return one line a path with all its differences; beyond ``limit`` lines only the count of the rest."""
    lines = []
    for _, group in groupby(differences, key=lambda difference: difference.path):
        first, *others = list(group)
        lines.append(
            "; ".join([str(first), *(str(other).removeprefix(f"{other.path}: ") for other in others)])
        )
    shown = [line.encode("utf-8", "backslashreplace").decode() for line in lines[:limit]]
    return shown if len(lines) <= limit else [*shown, f"and {len(lines) - limit} more paths"]
