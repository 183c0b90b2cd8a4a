"""The full state of a guest's disk: each path's type, mode, owner, links, size, times, content and flags.

The host reads it from the disk's blocks where it has them (:mod:`harness.observe.disk`). Else, and for what is mounted
beside, commands in the guest make it: ``find``, ``sha256sum``, ``lsattr`` where it is installed, and ``getfattr`` or
Python for attributes. Every path is listed. Content is read of what a live patch may touch, and of what changed since
an earlier snapshot: a file whose inode, size, modification and change times are the same was not written.
"""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Literal, TypeAlias

from bundle.errors import InfrastructureError
from harness.guest.collect import Section, answered, collect
from harness.guest.protocols import Blocks, Guest
from harness.observe import attributes, disk, reviewed

# What a live patch may touch, and where a rollback must leave no trace: the content of these is always known.
FOLDERS = (
    "/etc", "/opt", "/root", "/usr/local/cloud", "/var/cache/cloud", "/usr/share/cloud", "/var/www/html",
)  # fmt: skip
EVERYWHERE = ("/",)
# File systems that are no disk: views of the kernel, and what other machines keep. The one of devices is looked at:
# anybody with root's rights may plant a file there, and below it is the memory that programs share.
_VIEWS = (
    "proc", "sysfs", "cgroup", "cgroup2", "devpts", "securityfs", "debugfs", "tracefs", "configfs",
    "pstore", "bpf", "mqueue", "hugetlbfs", "fusectl", "fuse", "binfmt_misc", "autofs", "rpc_pipefs", "nfsd",
    "efivarfs", "ramfs", "nfs", "nfs4", "cifs", "ceph",
)  # fmt: skip
_TYPES = {
    "f": "file", "d": "folder", "l": "link", "p": "pipe", "s": "socket", "b": "block device", "c": "device"
}  # fmt: skip
# The array that a command's shell makes of the folders that are there.
_ROOTS = '"${roots[@]}"'
# Sorts what is mounted: into what the host reads (``disk``, see :func:`harness.observe.disk.on_disk`) and all else.
_BESIDE_DISK = (
    "roots=(); disk=(); inside=(); seen=' '; while read -r _ _ _ root point rest; do rest=${rest#* - }; "
    "kind=${rest%% *}; rest=${rest#* }; source=${rest%% *}; "
    'printf -v point %b "${point//\\\\/\\\\0}"; '
    f"case $kind in {'|'.join(_VIEWS)}) continue;; "
    'ext2|ext3|ext4) if [[ $root == / && $source =~ ^/dev/vda[0-9]*$ && $seen != *" $source "* ]]; then '
    'seen+="$source "; disk+=("$point"); continue; fi;; esac; roots+=("$point"); done </proc/self/mountinfo; '
)
_BESIDE = f'{_BESIDE_DISK}[ "${{#roots[@]}}" -gt 0 ] || exit 0; '
_FORMAT = r"%y\0%m\0%U\0%G\0%n\0%i\0%s\0%T@\0%C@\0%p\0%l\0"
_FIELDS = 11
_UNKNOWN_HASH = "unreadable"
# A file of a gigabyte takes minutes to read under emulation; one that changed differs by its time stamps, too.
_LARGEST_READ = 64  # MiB
# The flags of a file that nobody may change, or only append to.
_FLAGS = re.compile(r"^(?=\S*[ia])(\S+) (/.*)$")

PathChange: TypeAlias = Literal[
    "added", "removed", "type", "content", "mode", "owner", "link", "device", "hard links", "flags", "attributes",
]  # fmt: skip


@dataclass(frozen=True)
class Stamp:
    """Marks that move with a write: inode, size in bytes, times of modification and change (seconds, as text)."""

    inode: str
    size: str
    modified: str
    changed: str

    def __str__(self) -> str:
        written = datetime.fromtimestamp(float(self.modified), UTC)
        return f"{self.size} bytes of {written:%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True)
class PathState:
    """One path. ``link`` is set for symbolic links, ``device`` for devices, ``sha256`` where the content is known."""

    path: str
    type: str
    mode: int
    owner: str
    group: str
    link: str = ""
    sha256: str = ""
    xattrs: tuple[tuple[str, str], ...] = ()
    flags: str = ""
    links: int = 1
    stamp: Stamp | None = None
    device: str = ""


@dataclass(frozen=True)
class DiskState:
    """The state of a disk at one moment.

    Attributes:
        folders: those whose content is known.
        entries: every path that was listed.
        with_xattrs: whether the guest could list attributes.
        with_flags: whether it could list flags.
        taken: the guest's clock just before, in seconds.
        from_host: whether the host read the disk; the guest lists attributes and flags only below its folders.
        unread: why the host could not read a disk that it is shown.
        boot_code: digests of what is in no file and that a machine boots from, by place; where the host reads it.
        nameless: bytes of the disk that no path takes, see :func:`harness.observe.disk.nameless`; likewise.
    """

    folders: tuple[str, ...]
    entries: Mapping[str, PathState]
    with_xattrs: bool = False
    with_flags: bool = False
    taken: float = 0.0
    from_host: bool = False
    unread: str = ""
    boot_code: Mapping[str, str] = field(default_factory=dict)
    nameless: int = 0

    def __contains__(self, path: str) -> bool:
        return path in self.entries

    def only_known(self) -> DiskState:
        """Return the snapshot of what is below its folders, whose content is known."""
        kept = {
            path: entry
            for path, entry in self.entries.items()
            if any(path.startswith(f"{folder}/") for folder in self.folders)
        }
        return replace(self, entries=kept)


@dataclass(frozen=True)
class PathDifference:
    """One way in which one path differs; ``before`` and ``after`` are readable values."""

    path: str
    change: PathChange
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        """Return the line for a person."""
        if self.change in {"added", "removed"}:
            return f"{self.path}: {self.change} ({self.before or self.after})"
        return f"{self.path}: {self.change} {self.before} -> {self.after}"


def commands(
    folders: Sequence[str] = FOLDERS,
    roots: Sequence[str] | None = None,
    earlier: DiskState | None = None,
    *,
    beside: bool = False,
) -> dict[str, str]:
    """Return the commands that :func:`parse` reads; they may be part of a larger collection.

    Args:
        folders: whose content must be known.
        roots: what is listed; without them the folders.
        earlier: a snapshot of the same guest: only what changed since then is read again.
        beside: list only what is mounted beside the file systems of the disk, which the host reads. The last command
            lets the guest write out what it still keeps in memory.
    """
    views = " -o ".join(f"-fstype {view}" for view in _VIEWS)
    prune = rf"\( {views} \) -prune"
    if earlier is not None:
        # Two seconds earlier: the clock of a file system lags behind by a tick, and a clock may be set a little.
        read = f"-newerct @{earlier.taken - 2:.3f} -size -{_LARGEST_READ}M"
    elif roots is not None:
        below = " -o ".join(f"-path {shlex.quote(glob.escape(folder) + '/*')}" for folder in folders)
        read = rf"\( {below or '-false'} \)"
    else:
        read = ""
    unread = " ".join(f"! -path {shlex.quote(pattern)}" for pattern in reviewed.patterns("path"))
    top = _BESIDE if beside else _present(roots or folders)
    inside = f"{_BESIDE}{_only_below(folders)}" if beside else _present(folders)
    found = {
        "state.clock": "date +%s.%N",
        # One walk lists all and notes what to read. To ask for a name of each owner would take thrice as long.
        "state.owners": "getent passwd && echo && getent group",
        "state.paths": (
            f"{top}find {_ROOTS} -ignore_readdir_race {prune} -o -printf '{_FORMAT}' "
            f'-type f {read} {unread} -fprint0 "$folder/read" -o '
            r'\( -type b -o -type c \) -fprint0 "$folder/devices"'
        ),
        "state.devices": _noted("devices", r"stat --printf '%t:%T  %n\0'"),
        "state.hashes": _noted("read", "sha256sum -z"),
        **attributes.commands(inside, _ROOTS),
    }
    if beside:
        found["state.mounts"] = "cat /proc/self/mountinfo"
        found["state.written"] = f'{_BESIDE_DISK}sync -f -- "${{disk[@]}}"'
    return found


def _noted(name: str, program: str) -> str:
    """Return the command that runs a program with the paths that the walk noted; 123: one is gone meanwhile."""
    return (
        f'n="$folder/{name}"; s=0; [ ! -e "$n" ] || xargs -0 -r -a "$n" {program} -- || s=$?; rm -f "$n"; '
        "((s == 0 || s == 123))"
    )


def _only_below(folders: Sequence[str]) -> str:
    """Return the command that leaves those roots that are below folders."""
    patterns = "|".join(f"{shlex.quote(folder)}/*" for folder in folders) or "''"
    return (
        f'for r in "${{roots[@]}}"; do case $r in {patterns}) inside+=("$r");; esac; done; '
        '[ "${#inside[@]}" -gt 0 ] || exit 0; roots=("${inside[@]}"); '
    )


def _present(folders: Sequence[str]) -> str:
    names = " ".join(shlex.quote(folder) for folder in folders)
    return (
        f'roots=(); for r in {names}; do [ -e "$r" ] && roots+=("$r"); done; '
        '[ "${#roots[@]}" -gt 0 ] || exit 0; '
    )


def take(guest: Guest, folders: Sequence[str] = FOLDERS, *, deadline: float = 180.0) -> DiskState:
    """Return the state of folders in a guest; a folder that is not there is empty.

    Raises:
        InfrastructureError: the guest cannot say, or its answer is incomplete.
    """
    return parse(answered(guest, commands(folders), deadline=deadline), folders, name=guest.name)


def completed(guest: Guest, state: DiskState, *, deadline: float = 180.0) -> DiskState:
    """Return a later snapshot with the content of files that were written while the guest's clock was behind.

    By their times, those are older than the earlier snapshot, so they were not read.

    Raises:
        InfrastructureError: the guest cannot say.
    """
    paths = [
        entry.path
        for entry in state.entries.values()
        if entry.sha256 == _UNKNOWN_HASH and entry.stamp and int(entry.stamp.size) < _LARGEST_READ << 20
    ]
    if not paths:
        return state
    names = " ".join(map(shlex.quote, paths))
    command = f"printf '%s\\0' {names} | xargs -0 sha256sum -z --"
    hashes = dict(_hashes(collect(guest, {"state.hashes": command}, deadline=deadline)["state.hashes"].text))
    read = {path: replace(state.entries[path], sha256=hashes.get(path, _UNKNOWN_HASH)) for path in paths}
    return replace(state, entries={**state.entries, **read})


def parse(
    sections: Mapping[str, Section],
    folders: Sequence[str] = FOLDERS,
    *,
    earlier: DiskState | None = None,
    name: str = "guest",
    blocks: Blocks | None = None,
) -> DiskState:
    """Turn the outputs of :func:`commands` into a snapshot.

    A file that vanished between listing and reading is ``unreadable``, which differs from any content.

    Args:
        sections: the outputs.
        folders: whose content must be known.
        earlier: an earlier snapshot: what was read then is not read again.
        name: the guest, in messages.
        blocks: the disk, where the commands listed only what is mounted beside it.

    Raises:
        InfrastructureError: the listing is incomplete.
        OSError: the disk cannot be read, and others of :data:`harness.observe.disk.UNREADABLE`.
    """
    listing = sections["state.paths"].text
    values = listing.split("\0")
    if (listing and not listing.endswith("\0")) or (len(values) - 1) % _FIELDS:
        raise InfrastructureError(f"{name}: the listing of {', '.join(folders)} is incomplete")
    listed, flagged = sections["state.xattrs"], sections["state.flags"]
    xattrs, flags = attributes.parse_xattrs(listed.text), dict(_flags(flagged.text))
    hashes = dict(_hashes(sections["state.hashes"].text))
    devices = {path: numbers for numbers, path in _pairs(sections["state.devices"].text)}
    users, groups = map(_names, sections["state.owners"].text.partition("\n\n")[::2])
    entries = {}
    for row in zip(*(values[i:-1:_FIELDS] for i in range(_FIELDS)), strict=True):
        entry = _entry(row, users, groups)
        known = _content(entry, hashes, folders, earlier) if entry.type == "file" else ""
        entries[entry.path] = replace(
            entry, sha256=known, xattrs=xattrs.get(entry.path, ()), flags=flags.get(entry.path, ""),
            device=devices.get(entry.path, ""),
        )  # fmt: skip
    clock = float(sections["state.clock"].text.strip() or 0)
    state = DiskState(tuple(folders), entries, listed.status == 0, flagged.status == 0, clock)
    return state if blocks is None else _with_disk(state, blocks, sections, (users, groups), earlier)


def _with_disk(
    state: DiskState, blocks: Blocks, sections: Mapping[str, Section],
    names: tuple[Mapping[str, str], Mapping[str, str]], earlier: DiskState | None,
) -> DiskState:  # fmt: skip
    rows = disk.mounts(sections["state.mounts"].text)
    paths = list(disk.listed(blocks, rows))
    return replace(
        state, entries={**_from_disk(paths, *names, state.folders, earlier), **state.entries},
        with_xattrs=True, with_flags=True, from_host=True,
        boot_code=disk.boot_code(blocks, rows), nameless=disk.nameless(paths),
    )  # fmt: skip


def _from_disk(
    paths: Sequence[disk.DiskPath], users: Mapping[str, str], groups: Mapping[str, str], folders: Sequence[str],
    earlier: DiskState | None,
) -> dict[str, PathState]:  # fmt: skip
    """Return the paths of the disk, with the contents of those files that :func:`commands` would read."""
    entries: dict[str, PathState] = {}
    wanted = []
    for found in paths:
        entry = replace(
            _entry(found.fields, users, groups),
            xattrs=found.attributes, flags=found.flags, device=found.device,
        )  # fmt: skip
        if entry.type == "file" and not reviewed.may_differ("path", entry.path):
            before = earlier.entries.get(entry.path) if earlier else None
            if before is not None and before.stamp == entry.stamp:
                entry = replace(entry, sha256=before.sha256)
            elif found.inode.size >= _LARGEST_READ << 20:
                entry = replace(entry, sha256="")  # its stamp says whether it was written
            elif earlier is not None or _is_below(entry.path, folders):
                wanted.append(found)
        entries[entry.path] = entry
    for path, digest in disk.digests(wanted):
        entries[path] = replace(entries[path], sha256=digest)
    return entries


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _names(text: str) -> dict[str, str]:
    """Return names by number, from lines such as those of ``/etc/passwd``; of several names, the first."""
    rows = (line.split(":") for line in reversed(text.splitlines()) if line.count(":") > 1)
    return {fields[2]: fields[0] for fields in rows}


def _entry(row: tuple[str, ...], users: Mapping[str, str], groups: Mapping[str, str]) -> PathState:
    kind, mode, owner, group, links, inode, size, modified, changed, path, link = row
    return PathState(
        path=path, type=_TYPES.get(kind, kind), mode=int(mode, 8), owner=users.get(owner, owner),
        group=groups.get(group, group), link=link,
        links=int(links), stamp=Stamp(inode, size, modified, changed),
    )  # fmt: skip


def _content(
    entry: PathState, hashes: Mapping[str, str], folders: Sequence[str], earlier: DiskState | None
) -> str:
    """Return the digest of a file: as read, else as read before if it was not written since; "" if nobody asked."""
    path = entry.path
    if path in hashes:
        return hashes[path]
    before = earlier.entries.get(path) if earlier else None
    if before is not None and before.stamp == entry.stamp:
        return before.sha256
    return _UNKNOWN_HASH if _is_below(path, folders) and not reviewed.may_differ("path", path) else ""


def _flags(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if match := _FLAGS.match(line):
            path = match[2].removesuffix("/.") or "/"
            yield path, "".join(letter for letter in match[1] if letter in "ia")


def _hashes(text: str) -> Iterator[tuple[str, str]]:
    return ((path, digest) for digest, path in _pairs(text))


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield what is told of each path, with the path behind it."""
    for record in text.split("\0"):
        told, found, path = record.partition("  ")
        if found:
            yield told, path


def diff(
    before: DiskState, after: DiskState, wanted: Callable[[PathDifference], bool] = lambda _difference: True
) -> tuple[PathDifference, ...]:
    """Return every difference between two snapshots, sorted by path, volatile paths left out.

    Attributes and flags are compared only when both guests could list them.

    Args:
        before: the earlier snapshot.
        after: the later one.
        wanted: says whether a difference matters: the reviewed list excuses no others.
    """
    return tuple(
        difference
        for difference in _differences(before, after)
        if wanted(difference) and not _is_excused(before, after, difference)
    )


def _is_excused(before: DiskState, after: DiskState, row: PathDifference) -> bool:
    """True if a path may come, go or have another content; not if all may write to it, or it is of another kind."""
    path, one, other = row.path, before.entries.get(row.path), after.entries.get(row.path)
    if row.change == "mode" and one and other:
        closed = one.mode & ~0o077 == other.mode & ~0o077 and not other.mode & ~one.mode
        may = closed and reviewed.may_close(path)
    elif other:
        may = row.change in {"added", "content", "link"} and not (other.type == "file" and other.mode & 0o002)
    else:
        may = one is None or one.type != "folder" or not reviewed.stays(path)
    stamp = other.stamp if other else one.stamp if one else None
    return may and reviewed.is_small(path, int(stamp.size) if stamp else 0) and reviewed.excuses("path", path)


def _differences(before: DiskState, after: DiskState) -> Iterator[PathDifference]:
    with_xattrs = before.with_xattrs and after.with_xattrs
    with_flags = before.with_flags and after.with_flags
    old, new = before.entries, after.entries
    for path in sorted(old.keys() | new.keys()):
        one, other = old.get(path), new.get(path)
        if one is None or other is None:
            yield from _presence(one, other)
            continue
        yield from _compare(one, other)
        if before.from_host != after.from_host and not _is_below(path, before.folders):
            continue
        if with_flags and one.flags != other.flags:
            yield PathDifference(path, "flags", _flag_words(one), _flag_words(other))
        if with_xattrs and one.xattrs != other.xattrs:
            yield PathDifference(path, "attributes", _attributes(one), _attributes(other))


def _presence(old: PathState | None, new: PathState | None) -> Iterator[PathDifference]:
    if old is not None:
        yield PathDifference(old.path, "removed", before=_describe(old))
    if new is not None:
        yield PathDifference(new.path, "added", after=_describe(new))


def _compare(old: PathState, new: PathState) -> Iterator[PathDifference]:
    path = new.path
    if old.type != new.type:
        yield PathDifference(path, "type", old.type, new.type)
    elif old.type == "file":
        yield from _compare_content(old, new)
    if old.link != new.link:
        yield PathDifference(path, "link", old.link or "none", new.link or "none")
    if old.device != new.device and old.type == new.type:
        yield PathDifference(path, "device", old.device or "unknown", new.device or "unknown")
    if old.mode != new.mode:
        yield PathDifference(path, "mode", f"{old.mode:04o}", f"{new.mode:04o}")
    if (old.owner, old.group) != (new.owner, new.group):
        yield PathDifference(path, "owner", f"{old.owner}:{old.group}", f"{new.owner}:{new.group}")
    if old.type == new.type == "file" and old.links != new.links:
        yield PathDifference(path, "hard links", str(old.links), str(new.links))


def _compare_content(old: PathState, new: PathState) -> Iterator[PathDifference]:
    if old.sha256 and new.sha256:
        if old.sha256 != new.sha256 or _UNKNOWN_HASH in {old.sha256, new.sha256}:
            yield PathDifference(new.path, "content", old.sha256[:12], new.sha256[:12])
    elif old.stamp != new.stamp:  # nobody read it before: that it was written is all that can be said
        yield PathDifference(new.path, "content", str(old.stamp), str(new.stamp))


def _flag_words(entry: PathState) -> str:
    words = {"i": "immutable", "a": "append only"}
    return " and ".join(words[letter] for letter in entry.flags) or "none"


def _describe(entry: PathState) -> str:
    return f"{entry.type}, {entry.mode:04o}, {entry.owner}:{entry.group}"


def _attributes(entry: PathState) -> str:
    return ",".join(f"{name}={value}" for name, value in entry.xattrs) or "none"


def readable(differences: Iterable[PathDifference], limit: int = 200) -> list[str]:
    """Return one line a path with all its differences; beyond ``limit`` lines only the count of the rest."""
    lines = []
    for _, group in groupby(differences, key=lambda difference: difference.path):
        first, *others = list(group)
        lines.append(
            "; ".join([str(first), *(str(other).removeprefix(f"{other.path}: ") for other in others)])
        )
    shown = [line.encode("utf-8", "backslashreplace").decode() for line in lines[:limit]]
    return shown if len(lines) <= limit else [*shown, f"and {len(lines) - limit} more paths"]
