"""The reader of ext4 against e2fsprogs: what mke2fs has written, what debugfs puts into a journal, and damage."""

from __future__ import annotations

import os
import random
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from harness.observe import disk
from harness.observe.ext4 import FileSystem
from harness.observe.ext4_attributes import UnreadableFileSystem

MIB = 1 << 20
RIGHTS = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in [
        (1, 6, 0xFFFFFFFF), (2, 4, 1000), (4, 4, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF)
    ]
)  # fmt: skip


class Image:
    """The bytes of a file as a disk; one that is asked for what is not there fails."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read_many(self, ranges):
        found = [self.content[offset : offset + length] for offset, length in ranges]
        if any(len(data) != length for data, (_, length) in zip(found, ranges, strict=True)):
            raise OSError("behind the end of the disk")
        return found


def made(source: Path, target: Path, *options: str, size: str = "24M") -> Path:
    subprocess.run(
        ["/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", *options, "-d", str(source), str(target), size],
        check=True, capture_output=True,
    )  # fmt: skip
    return target


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Make a folder with everything that a file system has to tell apart."""
    root = tmp_path_factory.mktemp("tree")
    for length in (1, 59, 60, 900):
        (root / f"link{length}").symlink_to("x" * length)
    with (root / "sparse").open("wb") as file:
        file.truncate(5 * MIB)
        file.seek(3 * MIB)
        file.write(b"abc" * 5000)
    (root / "large").write_bytes(random.Random(1).randbytes(2 * MIB + 5))
    os.mkfifo(root / "pipe")
    os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3)) if os.geteuid() == 0 else None
    (root / "folder").mkdir()
    for number in range(700):
        (root / "folder" / f"{number:04}-{'n' * 40}").touch()
    (root / os.fsdecode(b"odd\n\xff\\ name")).write_text("odd")
    (root / "program").write_text("#!")
    (root / "program").chmod(0o6751)
    os.link(root / "program", root / "folder" / "second name")
    os.setxattr(root / "sparse", "user.note", b"1" * 60)
    os.setxattr(root / "sparse", "system.posix_acl_access", RIGHTS)
    os.setxattr(root / "folder", "system.posix_acl_default", RIGHTS)
    os.setxattr(root / "large", "user.much", b"2" * 700)
    return root


def facts(path: Path) -> tuple:
    found = path.lstat()
    return (
        found.st_mode, found.st_uid, found.st_gid, 0 if stat.S_ISDIR(found.st_mode) else found.st_nlink,
        0 if stat.S_ISDIR(found.st_mode) else found.st_size, f"{found.st_mtime_ns // 10**9 & 0xFFFFFFFF}",
        {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)},
        os.fsencode(path.readlink()) if path.is_symlink() else b"",
        path.read_bytes() if stat.S_ISREG(found.st_mode) else b"",
    )  # fmt: skip


def told(system: FileSystem, inode) -> tuple:
    kind = stat.S_IFMT(inode.mode)
    return (
        inode.mode, inode.uid, inode.gid, 0 if kind == stat.S_IFDIR else inode.links,
        0 if kind == stat.S_IFDIR else inode.size, inode.modified.partition(".")[0], system.attributes(inode),
        system.target(inode) if kind == stat.S_IFLNK else b"",
        system.contents([inode])[0] if kind == stat.S_IFREG else b"",
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        "",
        "-b 1024",
        "-b 4096",
        "-O ^extents,^64bit",
        "-O ^metadata_csum,^has_journal",
        "-I 512",
        "-b 1024 -g 2048",
    ],
)
def test_what_mke2fs_has_written_is_read(tree, tmp_path, options):
    image = made(tree, tmp_path / "image", *options.split())
    system = FileSystem(Image(b"\0" * MIB + image.read_bytes()), MIB)
    found = {os.fsdecode(path): inode for path, inode in system.walk()}
    paths = {f"/{path.relative_to(tree)}": path for path in tree.rglob("*")}
    assert found.keys() == paths.keys() | {"/", "/lost+found"}
    assert {name: told(system, found[name]) for name in paths} == {
        name: facts(path) for name, path in paths.items()
    }


@pytest.mark.parametrize("seconds", [4_400_000_000, 1_700_000_000, 5, -3600])
def test_times_have_all_their_digits_and_go_beyond_2038(tree, tmp_path, seconds):
    image = made(tree, tmp_path / "image", "-I", "256")
    epoch = (seconds + (1 << 31)) >> 32
    debugfs(
        image,
        f"set_inode_field /program mtime @{seconds & 0xFFFFFFFF:#x}",
        f"set_inode_field /program mtime_extra {987_654_321 << 2 | epoch}",
    )
    system = FileSystem(Image(image.read_bytes()))
    (program,) = (inode for path, inode in system.walk() if path == b"/program")
    assert program.modified == f"{seconds}.9876543210"


def test_flags_of_a_file_are_read(tree, tmp_path):
    image = made(tree, tmp_path / "image")
    debugfs(image, "set_inode_field /program flags 0x80030")
    found = {row.fields[9]: row.flags for row in disk.listed(Image(image.read_bytes()), disk.mounts(ROOT))}
    assert {path: flags for path, flags in found.items() if flags} == {
        "/program": "ia",
        "/folder/second name": "ia",
    }


ROOT = "25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"


def debugfs(image: Path, *commands: str) -> str:
    done = subprocess.run(
        ["/usr/sbin/debugfs", "-w", "-f", "-", image], input="\n".join(commands), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize(
    "options", [(), ("-O", "^metadata_csum"), ("-O", "^metadata_csum,^64bit"), ("-b", "4096")]
)
def test_what_the_journal_holds_is_put_in_its_place(tree, tmp_path, options):
    image = made(tree, tmp_path / "image", *options, size="32M")
    size = FileSystem(Image(image.read_bytes())).block_size
    blocks = [
        int(word) for word in debugfs(image, "blocks /large").splitlines()[-1].split() if word.isdigit()
    ]
    first, second, third = blocks[:3]
    (tmp_path / "one").write_bytes(b"1" * size)
    # The magic number of the journal itself is escaped in it.
    (tmp_path / "magic").write_bytes(struct.pack(">I", 0xC03B3998) + b"m" * (size - 4))
    (tmp_path / "two").write_bytes(b"2" * size)
    checksums = "-c" if "^metadata_csum" not in "".join(options) else ""
    debugfs(
        image,
        f"journal_open {checksums}",
        f"journal_write -b {first} {tmp_path / 'one'}",
        f"journal_write -b {third} {tmp_path / 'one'}",
        f"journal_write -b {second} {tmp_path / 'magic'}",
        f"journal_write -r {third}",
        f"journal_write -b {first} {tmp_path / 'two'}",
        "journal_close",
    )  # fmt: skip
    before = content(FileSystem(Image(image.read_bytes())), b"/large")
    replayed = shutil.copy(image, tmp_path / "replayed")
    subprocess.run(
        ["/usr/sbin/e2fsck", "-fy", "-E", "journal_only", replayed], capture_output=True, check=False
    )
    assert before == content(FileSystem(Image(Path(replayed).read_bytes())), b"/large")
    assert before[:size] == b"2" * size
    assert before[size : 2 * size].endswith(b"m" * (size - 4))
    assert before[2 * size : 3 * size] == (tree / "large").read_bytes()[2 * size : 3 * size]


def content(system: FileSystem, wanted: bytes) -> bytes:
    return next(system.contents([inode])[0] for path, inode in system.walk() if path == wanted)


def test_what_nobody_can_read_is_said(tree, tmp_path):
    with pytest.raises(UnreadableFileSystem, match="no ext4"):
        FileSystem(Image(b"\0" * 4096))
    image = made(tree, tmp_path / "image", "-O", "inline_data")
    with pytest.raises(UnreadableFileSystem, match="features 0x8000"):
        FileSystem(Image(image.read_bytes()))


@pytest.mark.timeout(120)
def test_damage_is_told_and_costs_no_time(tree, tmp_path):
    """Random bytes of a disk that its guest can write to: either it is read, or it is said that it makes no sense."""
    image, draw = bytearray(made(tree, tmp_path / "image").read_bytes()), random.Random(7)
    system = FileSystem(Image(bytes(image)))
    tables = [at * system.block_size for at in system._groups.tables]
    places = [range(1024, 2048), range(4096, 8192), *(range(at, at + 40 * 256) for at in tables)]
    told = 0
    for _ in range(150):
        damaged = bytearray(image)
        for _ in range(draw.randrange(1, 30)):
            damaged[draw.choice(draw.choice(places))] = draw.randrange(256)
        try:
            rows = list(disk.listed(Image(bytes(damaged)), disk.mounts(ROOT)))
            list(disk.digests([row for row in rows if row.fields[0] == "f" and row.inode.size < 8 * MIB]))
        except disk.UNREADABLE:
            told += 1
    assert told > 20
