"""The paths of a guest's disk as the host reads them from its blocks, past the guest's own programs.

What is mounted where is what the guest says; what is on the file systems of its disk is not. A command in the guest
still lists what is on others, such as those in memory (:mod:`harness.observe.files`).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.guest.protocols import Blocks
from harness.observe.ext4 import FileSystem, Inode
from harness.observe.ext4_attributes import UnreadableFileSystem

# What is read of a disk that makes no sense is told as this; so is what a hostile guest puts there.
UNREADABLE = (OSError, UnreadableFileSystem, struct.error, ValueError, IndexError, RecursionError)
# The disk of a system VM, and the number of a partition.
_DEVICE = re.compile(r"/dev/vda(\d*)")
_SECTOR = 512
_KINDS = ("ext2", "ext3", "ext4")
_LETTERS = {
    stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p", stat.S_IFSOCK: "s",
    stat.S_IFBLK: "b", stat.S_IFCHR: "c",
}  # fmt: skip
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20
# Files are read together, up to so many bytes.
_TOGETHER = 16 << 20
# A boot loader's code is within so many bytes: of a disk before its first file system, and of a partition without one.
_BOOT_CODE = 4 << 20
_BOOT_BLOCK = 1024


@dataclass(frozen=True)
class Mounted:
    """One row of ``/proc/self/mountinfo``."""

    root: str
    point: str
    kind: str
    source: str


@dataclass(frozen=True)
class DiskPath:
    """One path on a disk.

    Attributes:
        fields: as ``find`` prints them: type, mode, owner, group, links, inode, size, modified, changed, path, link.
        device: its numbers, as ``stat`` prints them; "" of what is no device.
        attributes: extended ones by name, as hexadecimal digits.
        flags: "i" for immutable, "a" for append only.
    """

    fields: tuple[str, ...]
    device: str
    attributes: tuple[tuple[str, str], ...]
    flags: str
    system: FileSystem
    inode: Inode


def mounts(text: str) -> list[Mounted]:
    """Return the rows of ``/proc/self/mountinfo``."""
    found = []
    for line in text.splitlines():
        place, _, kind = line.partition(" - ")
        fields, others = place.split(" "), kind.split(" ")
        found.append(Mounted(_plain(fields[3]), _plain(fields[4]), others[0], _plain(others[1])))
    return found


def on_disk(rows: Sequence[Mounted]) -> dict[str, Mounted]:
    """Return those whose file system the host reads, by device: whole ones, each the first time that it is mounted."""
    found: dict[str, Mounted] = {}
    for row in rows:
        if row.kind in _KINDS and row.root == "/" and _DEVICE.fullmatch(row.source):
            found.setdefault(row.source, row)
    return found


def listed(blocks: Blocks, rows: Sequence[Mounted]) -> Iterator[DiskPath]:
    """Yield every path on the disk's mounted file systems that no other file system covers.

    Raises:
        UnreadableFileSystem: one cannot be read, and others of :data:`UNREADABLE`.
    """
    parts = partitions(blocks)
    points = {os.fsencode(row.point) for row in rows}
    systems = on_disk(rows)
    if not any(row.point == "/" for row in systems.values()):
        raise UnreadableFileSystem("the root file system is not on the disk that the host knows")
    for device, mount in systems.items():
        match = _DEVICE.fullmatch(device)
        number = int(match[1] or "0") if match else 0
        if number not in parts:
            raise UnreadableFileSystem(f"there is no partition {number}")
        system = FileSystem(blocks, parts[number])
        top = os.fsencode(mount.point)
        covered = {point for point in points if point != top and point.startswith(top.rstrip(b"/") + b"/")}
        for path, inode in system.walk(_outside(top, covered)):
            yield _found(system, _below(top, path), inode)


def _outside(top: bytes, covered: set[bytes]) -> Callable[[bytes], bool]:
    return lambda path: _below(top, path) not in covered


def _below(top: bytes, path: bytes) -> bytes:
    return top if path == b"/" else top.rstrip(b"/") + path


def digests(wanted: Sequence[DiskPath]) -> Iterator[tuple[str, str]]:
    """Yield the path and the SHA-256 of files, which are read in groups."""
    batch: list[DiskPath] = []
    size = 0
    for one in [*wanted, None]:
        if one is None or size + one.inode.size > _TOGETHER or (batch and batch[0].system is not one.system):
            contents = batch[0].system.contents([found.inode for found in batch]) if batch else []
            for found, content in zip(batch, contents, strict=True):
                yield found.fields[9], hashlib.sha256(content).hexdigest()
            batch, size = [], 0
        if one is not None:
            batch.append(one)
            size += one.inode.size


def nameless(found: Iterable[DiskPath]) -> int:
    """Return the bytes of the file systems of paths that none of them takes: their own, and of files without a name.

    What a file system needs for itself does not change, so that two looks differ by what somebody keeps open and has
    removed.
    """
    taken: dict[int, dict[int, int]] = {}
    systems = {}
    for one in found:
        systems[id(one.system)] = one.system
        taken.setdefault(id(one.system), {})[one.inode.number] = one.system.taken(one.inode)
    return sum(system.used - sum(taken[key].values()) for key, system in systems.items())


def boot_code(blocks: Blocks, rows: Sequence[Mounted]) -> dict[str, str]:
    """Return the SHA-256 of what a machine may boot from and that is in no file, by place.

    That is what lies before the first partition, the boot blocks of the file systems, and the beginnings of the
    partitions that none of them is on.

    Raises:
        OSError: the disk cannot be read, and others of :data:`UNREADABLE`.
    """
    parts = _parts(blocks)
    mounted = {int(match[1] or "0") for device in on_disk(rows) if (match := _DEVICE.fullmatch(device))}
    ranges = {"the disk before its partitions": (0, min((start for start, _ in parts.values()), default=0))}
    ranges |= {f"partition {number}": place for number, place in parts.items()}
    for number in mounted:
        start, _ = parts.get(number, (0, 0))
        ranges[f"partition {number}" if number else "the disk"] = (start, _BOOT_BLOCK)
    wanted = {name: (start, min(length, _BOOT_CODE)) for name, (start, length) in ranges.items() if length}
    contents = blocks.read_many(list(wanted.values()))
    return {name: hashlib.sha256(content).hexdigest() for name, content in zip(wanted, contents, strict=True)}


def partitions(blocks: Blocks) -> Mapping[int, int]:
    """Return where each partition begins, in bytes; 0 is the whole disk. MBR with logical ones, and GPT.

    Raises:
        UnreadableFileSystem: the table makes no sense.
    """
    return {0: 0} | {number: start for number, (start, _) in _parts(blocks).items()}


def _parts(blocks: Blocks) -> dict[int, tuple[int, int]]:
    """Return where each partition begins and how long it is, in bytes."""
    found = {}
    rows = _table(blocks, 0)
    if any(kind == _PROTECTIVE for kind, _, _ in rows):
        return _gpt(blocks)
    extended = 0
    for number, (kind, first, length) in enumerate(rows, 1):
        if kind in _EXTENDED:
            extended = first
        elif kind:
            found[number] = (first * _SECTOR, length * _SECTOR)
    at = extended
    for number in range(5, 64):
        if not at:
            break
        (kind, first, length), (_, further, _), *_ = _table(blocks, at)
        if kind:
            found[number] = ((at + first) * _SECTOR, length * _SECTOR)
        at = extended + further if further else 0
    return found


def _table(blocks: Blocks, sector: int) -> list[tuple[int, int, int]]:
    """Return type, first sector and length of the four entries of a boot record."""
    text = blocks.read_many([(sector * _SECTOR, _SECTOR)])[0]
    if text[510:] != b"\x55\xaa":
        return [(0, 0, 0)] * 4
    return [struct.unpack_from("<4xB3xII", text, 446 + 16 * n) for n in range(4)]


def _gpt(blocks: Blocks) -> dict[int, tuple[int, int]]:
    head = blocks.read_many([(_SECTOR, _SECTOR)])[0]
    at, count, size = struct.unpack_from("<QII", head, 72)
    if head[:8] != b"EFI PART" or not 0 < count <= 128 or not 128 <= size <= 4096:
        raise UnreadableFileSystem("the table of partitions makes no sense")
    text = blocks.read_many([(at * _SECTOR, count * size)])[0]
    rows = ((n + 1, text[n * size : (n + 1) * size]) for n in range(count))
    places = {n: struct.unpack_from("<32xQQ", row) for n, row in rows if any(row[:16])}
    return {n: (first * _SECTOR, (last - first + 1) * _SECTOR) for n, (first, last) in places.items()}


def _found(system: FileSystem, path: bytes, inode: Inode) -> DiskPath:
    kind = stat.S_IFMT(inode.mode)
    link = os.fsdecode(system.target(inode)) if kind == stat.S_IFLNK else ""
    fields = (
        _LETTERS.get(kind, "?"), f"{stat.S_IMODE(inode.mode):o}", str(inode.uid), str(inode.gid), str(inode.links),
        str(inode.number), str(inode.size), inode.modified, inode.changed, os.fsdecode(path), link,
    )  # fmt: skip
    attributes = tuple((name, f"0x{value.hex()}") for name, value in sorted(system.attributes(inode).items()))
    flags = ("i" if inode.flags & _IMMUTABLE else "") + ("a" if inode.flags & _APPEND_ONLY else "")
    device = "{:x}:{:x}".format(*inode.device) if kind in {stat.S_IFBLK, stat.S_IFCHR} else ""
    return DiskPath(fields, device, attributes, flags, system, inode)


def _plain(text: str) -> str:
    """Return a path without the escapes of the kernel's tables."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
