"""An ext4 file system, read from its blocks: what a guest has on its disk, whatever its own programs say.

The blocks are those of one moment of a mounted file system, so what its journal holds is put in its place first, as the
kernel does after a power cut. Nothing is written. The formats are those of the kernel's documentation, "ext4 Data
Structures and Algorithms".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from harness.guest.protocols import Blocks
from harness.observe.ext4_attributes import MAGIC_OF_ATTRIBUTES, UnreadableFileSystem, attributes_in

ROOT = 2
_MAGIC = 0xEF53
# What has to be understood to read anything: types in directories, a journal to replay, extents, 64 bits, protection
# against a second mount, flexible groups, a seed of checksums, directories of three levels.
_KNOWN = 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200 | 0x2000 | 0x4000
_RECOVER = 0x4
_WIDE = 0x80
_EXTENTS = 0x80000
_IN_BLOCKS = 0x40000
_EXTENTS_MAGIC = 0xF30A
_JOURNAL_MAGIC = 0xC03B3998
# Of a journal: revoked blocks, 64 bits, commits that do not wait, checksums of the third kind.
_REVOKES, _WIDE_JOURNAL, _ASYNCHRONOUS, _CHECKSUMS = 0x1, 0x2, 0x4, 0x10
_DESCRIPTOR, _COMMIT, _REVOKED = 1, 2, 5
_ESCAPED, _SAME, _LAST = 1, 2, 8
_BATCH = 256  # blocks of the journal that are read at once
_LARGEST_READ = 8 << 20  # bytes of one request
# What a disk that makes no sense may cost: bytes that are read together, pieces of one file, and paths.
_LARGEST_CONTENTS = 128 << 20
_MOST_PIECES = 1 << 18
_MOST_PATHS = 1 << 21
_SYMLINK = 0o120000
_DIRECTORY = 0o040000


@dataclass(frozen=True)
class Inode:
    """One inode.

    Attributes:
        mode: type and permissions, as in :mod:`stat`.
        size: bytes.
        modified: seconds and ten digits behind them, as ``find`` prints times.
        changed: likewise.
        flags: of the file system, such as 0x10 for immutable.
        map: where its blocks are, or the short target of a link.
        attributes_at: block of further attributes, 0 without one.
        sectors: of 512 bytes (or blocks), also of that block.
        inside: what is in the inode behind its fields: attributes.
    """

    number: int
    mode: int
    uid: int
    gid: int
    links: int
    size: int
    modified: str
    changed: str
    flags: int
    map: bytes
    attributes_at: int
    sectors: int
    inside: bytes

    @property
    def device(self) -> tuple[int, int]:
        """The numbers, major and minor, of the device that it stands for."""
        old, new = struct.unpack_from("<II", self.map)
        if old:
            return old >> 8 & 0xFF, old & 0xFF
        return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00


@dataclass(frozen=True)
class _Groups:
    """Block groups: where the inodes of each are, how many of them were never used, and how many blocks are free."""

    tables: tuple[int, ...]
    unused: tuple[int, ...]
    free: tuple[int, ...]


@dataclass
class FileSystem:
    """A file system on a disk, ``start`` bytes behind its beginning.

    Raises:
        UnreadableFileSystem: it is none that can be read.
        OSError: a read failed.
    """

    blocks: Blocks
    start: int = 0
    block_size: int = field(init=False)
    _replayed: dict[int, bytes] = field(init=False, default_factory=dict)
    _tables: dict[int, bytes] = field(init=False, default_factory=dict)
    _shared: dict[int, bytes] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Read the geometry and the journal."""
        head = self.blocks.read_many([(self.start + 1024, 1024)])[0]
        if struct.unpack_from("<H", head, 0x38)[0] != _MAGIC:
            raise UnreadableFileSystem("no ext4 file system")
        inodes, low = struct.unpack_from("<II", head)
        first, size = struct.unpack_from("<II", head, 0x14)
        self._per_group, self._inodes_per_group = struct.unpack_from("<I4xI", head, 0x20)
        self._inode_size = struct.unpack_from("<H", head, 0x58)[0]
        needed = struct.unpack_from("<I", head, 0x60)[0]
        if unknown := needed & ~_KNOWN:
            raise UnreadableFileSystem(
                f"the file system has features {unknown:#x}, which nobody here can read"
            )
        if (
            size > 6
            or not 128 <= self._inode_size <= 4096
            or not self._per_group
            or not self._inodes_per_group
        ):
            raise UnreadableFileSystem("the file system has no sizes that make sense")
        self.block_size = 1024 << size
        total = low | (struct.unpack_from("<I", head, 0x150)[0] << 32 if needed & _WIDE else 0)
        self._total = total
        self._count = -(-(total - first) // self._per_group)
        if not 0 < self._count <= 1 << 20 or inodes > self._count * self._inodes_per_group:
            raise UnreadableFileSystem("the file system has no sizes that make sense")
        self._descriptors = (first + 1, struct.unpack_from("<H", head, 0xFE)[0] if needed & _WIDE else 32)
        self._groups = self._read_groups()
        if needed & _RECOVER:
            self._replay(self.inode(struct.unpack_from("<I", head, 0xE0)[0]))
            self._tables.clear()
            self._groups = self._read_groups()

    # -- blocks ------------------------------------------------------------------------------------------------------

    def _runs(self, runs: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of runs of blocks (first, count), with what the journal says of them."""
        size, found = self.block_size, []
        ranges = [(self.start + first * size, count * size) for first, count in runs]
        for (first, count), data in zip(runs, self.blocks.read_many(ranges), strict=True):
            newer = (
                [number for number in range(first, first + count) if number in self._replayed]
                if count < len(self._replayed)
                else [number for number in self._replayed if first <= number < first + count]
            )
            if newer:
                patched = bytearray(data)
                for number in newer:
                    patched[(number - first) * size : (number - first + 1) * size] = self._replayed[number]
                data = bytes(patched)
            found.append(data)
        return found

    def _read_groups(self) -> _Groups:
        first, size = self._descriptors
        if size < 32 or size % 8:
            raise UnreadableFileSystem("the file system has no sizes that make sense")
        text = self._runs([(first, -(-self._count * size // self.block_size))])[0]
        tables, unused, spare = [], [], []
        for at in range(0, self._count * size, size):
            table, free, flags, left = struct.unpack_from("<8xIH4xH8xH", text, at)
            if size >= 64:
                table |= struct.unpack_from("<I", text, at + 0x28)[0] << 32
                free |= struct.unpack_from("<H", text, at + 0x2C)[0] << 16
                left |= struct.unpack_from("<H", text, at + 0x32)[0] << 16
            tables.append(table)
            unused.append(self._inodes_per_group if flags & 1 else min(left, self._inodes_per_group))
            spare.append(free)
        return _Groups(tuple(tables), tuple(unused), tuple(spare))

    @property
    def used(self) -> int:
        """Bytes that are not free: those of files, also of files without a name, and the file system's own."""
        total: int = self._total - sum(self._groups.free)
        return total * self.block_size

    def taken(self, inode: Inode) -> int:
        """Return the bytes of the disk that an inode takes."""
        return inode.sectors * (self.block_size if inode.flags & _IN_BLOCKS else 512)

    def _table(self, group: int) -> bytes:
        if group not in self._tables:
            used = self._inodes_per_group - self._groups.unused[group]
            count = -(-used * self._inode_size // self.block_size)
            self._tables[group] = self._runs([(self._groups.tables[group], count)])[0] if count else b""
        return self._tables[group]

    # -- inodes ------------------------------------------------------------------------------------------------------

    def inode(self, number: int) -> Inode:
        """Return an inode by its number.

        Raises:
            UnreadableFileSystem: there is none of that number.
        """
        group, index = divmod(number - 1, self._inodes_per_group)
        at = index * self._inode_size
        if not 0 <= group < self._count or (text := self._table(group)[at : at + self._inode_size]) == b"":
            raise UnreadableFileSystem(f"there is no inode {number}")
        mode, uid, low, _, changed, modified, _, gid, links, sectors, flags = struct.unpack_from(
            "<HHIIIIIHHII", text
        )
        at_low, high, sectors_high, at_high, uid_high, gid_high = struct.unpack_from("<II4xHHHH", text, 0x68)
        extra = struct.unpack_from("<H", text, 0x80)[0] if self._inode_size > 128 else 0
        changed_more = struct.unpack_from("<I", text, 0x84)[0] if extra >= 8 else 0
        modified_more = struct.unpack_from("<I", text, 0x88)[0] if extra >= 12 else 0
        return Inode(
            number=number, mode=mode, uid=uid | uid_high << 16, gid=gid | gid_high << 16, links=links,
            size=low | (0 if mode & 0o170000 == _SYMLINK else high << 32),
            modified=_time(modified, modified_more), changed=_time(changed, changed_more),
            flags=flags, map=text[0x28:0x64], attributes_at=at_low | at_high << 32,
            sectors=sectors | sectors_high << 32, inside=text[128 + extra :] if extra else b"",
        )  # fmt: skip

    def _map(self, inode: Inode) -> list[tuple[int, int, int]]:
        """Return the pieces of a file as (block in it, first block on the disk, count); holes are in none."""
        pieces = list(islice(self._pieces(inode), _MOST_PIECES))
        if len(pieces) == _MOST_PIECES:
            raise UnreadableFileSystem(f"inode {inode.number} has more pieces than make sense")
        return [piece for piece in pieces if piece[1]]

    def _pieces(self, inode: Inode) -> Iterator[tuple[int, int, int]]:
        if inode.flags & _EXTENTS:
            yield from self._extents(inode.map, inode.number)
            return
        direct = struct.unpack("<15I", inode.map)
        yield from ((index, block, 1) for index, block in enumerate(direct[:12]) if block)
        at, fan = 12, self.block_size // 4
        for depth, block in enumerate(direct[12:], 1):
            yield from self._indirect(block, depth, at)
            at += fan**depth

    def _extents(self, node: bytes, number: int, above: int | None = None) -> Iterator[tuple[int, int, int]]:
        magic, count, _, depth = struct.unpack_from("<HHHH", node)
        wanted = depth if above is None else above - 1
        if (
            magic != _EXTENTS_MAGIC
            or depth > 5
            or depth != wanted
            or 12 + count * 12 > len(node)
            or not (count or above is None)
        ):
            raise UnreadableFileSystem(f"inode {number}: its extents make no sense")
        for at in range(12, 12 + count * 12, 12):
            if depth:
                low, high = struct.unpack_from("<4xIH", node, at)
                yield from self._extents(self._runs([(low | high << 32, 1)])[0], number, depth)
            else:
                block, length, high, low = struct.unpack_from("<IHHI", node, at)
                # A longer one was given room and never written: it reads as zeros, like a hole.
                yield block, low | high << 32 if length <= 32768 else 0, length

    def _indirect(self, block: int, depth: int, at: int) -> Iterator[tuple[int, int, int]]:
        if not block:
            return
        fan = self.block_size // 4
        for index, below in enumerate(struct.unpack(f"<{fan}I", self._runs([(block, 1)])[0])):
            if below and depth == 1:
                yield at + index, below, 1
            elif below:
                yield from self._indirect(below, depth - 1, at + index * fan ** (depth - 1))

    def contents(self, inodes: Sequence[Inode]) -> list[bytes]:
        """Return the contents of files or folders, read together."""
        size = self.block_size
        runs, places = [], []
        if (total := sum(inode.size for inode in inodes)) > _LARGEST_CONTENTS:
            raise UnreadableFileSystem(
                f"inode {inodes[0].number} and others have {total} bytes, which are too many"
            )
        for index, inode in enumerate(inodes):
            blocks = -(-inode.size // size)
            for block, first, count in self._map(inode):
                left = min(count, blocks - block)
                step = _LARGEST_READ // size
                for part in range(0, left, step):
                    runs.append((first + part, min(step, left - part)))
                    places.append((index, (block + part) * size))
        found = [bytearray(inode.size) for inode in inodes]
        for (index, at), data in zip(places, self._runs(runs), strict=True):
            found[index][at : at + len(data)] = data[: inodes[index].size - at]
        return [bytes(content) for content in found]

    def target(self, inode: Inode) -> bytes:
        """Return where a symbolic link leads to."""
        beside = self.block_size >> 9 if inode.attributes_at else 0
        if inode.size < 60 and inode.sectors - beside <= 0:
            return inode.map[: inode.size]
        return self.contents([inode])[0]

    def attributes(self, inode: Inode) -> dict[str, bytes]:
        """Return the extended attributes of an inode, with lists of access rights as the kernel gives them."""
        found: dict[str, bytes] = {}
        if inode.inside[:4] == struct.pack("<I", MAGIC_OF_ATTRIBUTES):
            found.update(attributes_in(inode.inside[4:], 0))
        if inode.attributes_at:
            if inode.attributes_at not in self._shared:
                self._shared[inode.attributes_at] = self._runs([(inode.attributes_at, 1)])[0]
            text = self._shared[inode.attributes_at]
            if text[:4] != struct.pack("<I", MAGIC_OF_ATTRIBUTES):
                raise UnreadableFileSystem(f"inode {inode.number}: its attributes make no sense")
            found.update(attributes_in(text[32:], 32))
        return found

    def walk(self, wanted: Callable[[bytes], bool] = lambda _path: True) -> Iterator[tuple[bytes, Inode]]:
        """Yield every path, "/" first, with its inode: one level of folders after the other.

        Args:
            wanted: says whether a path is; what is below one that is not is left out, too.

        Raises:
            UnreadableFileSystem: a folder makes no sense.
        """
        level = [(b"/", self.inode(ROOT))]
        yield level[0]
        seen, paths = {ROOT}, 1
        while level:
            below = []
            contents = self.contents([inode for _, inode in level])
            for (folder, inode), content in zip(level, contents, strict=True):
                for name, number in _names(content, self.block_size, inode.number):
                    path = folder.rstrip(b"/") + b"/" + name
                    if not wanted(path):
                        continue
                    found = self.inode(number)
                    yield path, found
                    if (paths := paths + 1) > _MOST_PATHS:
                        raise UnreadableFileSystem(f"there are more than {_MOST_PATHS} paths")
                    if found.mode & 0o170000 == _DIRECTORY:
                        if number in seen:
                            raise UnreadableFileSystem(f"folder {number} is there twice")
                        seen.add(number)
                        below.append((path, found))
            level = below

    # -- journal -----------------------------------------------------------------------------------------------------

    def _replay(self, inode: Inode) -> None:
        """Learn the blocks that the journal holds and that may not be in their place yet."""
        places = [first + n for _, first, count in self._map(inode) for n in range(count)]
        head = self._runs([(places[0], 1)])[0]
        magic, kind, _, size, length, first, sequence, start = struct.unpack_from(">IIIIIIII", head)
        features = struct.unpack_from(">I", head, 0x28)[0] if kind == 4 else 0
        if magic != _JOURNAL_MAGIC or size != self.block_size or not 0 < first < length <= len(places):
            raise UnreadableFileSystem("the journal makes no sense")
        if unknown := features & ~(_REVOKES | _WIDE_JOURNAL | _ASYNCHRONOUS | _CHECKSUMS):
            raise UnreadableFileSystem(f"the journal has features {unknown:#x}, which nobody here can read")
        if not start:
            return
        log = _Log(self, places, first, length, start)
        revoked: dict[int, int] = {}
        written: list[tuple[int, int, bytes]] = []
        for number, blocks, gone in _transactions(log, sequence, features):
            written += [(number, block, data) for block, data in blocks]
            revoked.update((block, number) for block in gone)
        self._replayed = {block: data for number, block, data in written if number > revoked.get(block, -1)}


@dataclass
class _Log:
    """The blocks of a journal from where it starts, around its end, once."""

    system: FileSystem
    places: list[int]
    first: int
    length: int
    at: int
    ahead: list[bytes] = field(default_factory=list)
    left: int = field(init=False)

    def __post_init__(self) -> None:
        """Count what there is."""
        self.left = self.length - self.first

    def next(self) -> bytes | None:
        """Return the next block, None when all were read."""
        if not self.ahead:
            count = min(_BATCH, self.left, self.length - self.at)
            if count <= 0:
                return None
            runs = _joined((self.places[self.at + n], 1) for n in range(count))
            data, size = b"".join(self.system._runs(runs)), self.system.block_size
            self.ahead = [data[at : at + size] for at in range(len(data) - size, -1, -size)]
            self.left -= count
            self.at = self.first if self.at + count >= self.length else self.at + count
        return self.ahead.pop()


def _joined(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return runs of blocks, those that follow each other as one."""
    joined: list[tuple[int, int]] = []
    for first, count in runs:
        if joined and sum(joined[-1]) == first:
            joined[-1] = (joined[-1][0], joined[-1][1] + count)
        else:
            joined.append((first, count))
    return joined


def _transactions(
    log: _Log, sequence: int, features: int
) -> Iterator[tuple[int, list[tuple[int, bytes]], list[int]]]:
    """Yield the number of each committed transaction, its blocks, and those that it revokes."""
    blocks: list[tuple[int, bytes]] = []
    gone: list[int] = []
    number = 0
    while (head := log.next()) is not None:
        magic, kind, told = struct.unpack_from(">III", head)
        if magic != _JOURNAL_MAGIC or told != sequence:
            return
        if kind == _DESCRIPTOR:
            for block, escaped in _tags(head, features):
                if (data := log.next()) is None:
                    return
                blocks.append((block, struct.pack(">I", _JOURNAL_MAGIC) + data[4:] if escaped else data))
        elif kind == _REVOKED:
            form = ">Q" if features & _WIDE_JOURNAL else ">I"
            end = min(struct.unpack_from(">I", head, 12)[0], len(head))
            whole = head[16 : end - (end - 16) % struct.calcsize(form)]
            gone += [entry for (entry,) in struct.iter_unpack(form, whole)]
        elif kind == _COMMIT:
            yield number, blocks, gone
            blocks, gone = [], []
            number += 1
            sequence = (sequence + 1) & 0xFFFFFFFF
        else:
            return


def _tags(head: bytes, features: int) -> Iterator[tuple[int, bool]]:
    """Yield the blocks that a descriptor names, and whether their first bytes stand for the magic number."""
    at = 12
    end = len(head) - (4 if features & _CHECKSUMS else 0)
    size = 16 if features & _CHECKSUMS else 12 if features & _WIDE_JOURNAL else 8
    while at + size <= end:
        if features & _CHECKSUMS:
            block, flags, high = struct.unpack_from(">III", head, at)
        else:
            block, flags = struct.unpack_from(">I2xH", head, at)
            high = struct.unpack_from(">I", head, at + 8)[0] if features & _WIDE_JOURNAL else 0
        yield block | (high << 32 if features & _WIDE_JOURNAL else 0), bool(flags & _ESCAPED)
        at += size + (0 if flags & _SAME else 16)
        if flags & _LAST:
            return


def _time(seconds: int, more: int) -> str:
    signed = seconds - (1 << 32) if seconds >= 1 << 31 else seconds
    return f"{signed + ((more & 3) << 32)}.{more >> 2:09d}0"


def _names(content: bytes, size: int, number: int) -> Iterator[tuple[bytes, int]]:
    """Yield the names in a folder with their inodes; the index of a large folder looks like an empty entry."""
    for block in range(0, len(content), size):
        at = block
        while at < block + size:
            inode, length, long = struct.unpack_from("<IHB", content, at)
            # 65535 stands for a whole block of 64 KiB.
            length = (length & 0xFFFC) | (length & 3) << 16 if length != 0xFFFF else size
            if length < 8 or at + length > block + size or long > length - 8:
                raise UnreadableFileSystem(f"folder {number} makes no sense")
            name = content[at + 8 : at + 8 + long]
            if inode and name not in (b".", b".."):
                yield name, inode
            at += length
