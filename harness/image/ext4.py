"""An ext4 file system filled from a tree, inside a file: no root, no mount, the same bytes on every host.

``mke2fs -d`` would do it in one call, but takes directory entries in the order in which the host's file system gives
them, so that two hosts make two images (docs/adr/0041). debugfs is told what to write, in sorted order.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bundle import programs
from bundle.errors import InfrastructureError
from harness.image.tree import Node, in_order

BLOCK = 4096
# Where e2fsprogs lie; not in the PATH of ordinary users.
SBIN = ":/usr/sbin:/sbin"
_MIB = 1024 * 1024
# Named one by one, since the host's mke2fs.conf and the version of e2fsprogs decide otherwise. No checksums: they cost
# time under emulation; nothing that GRUB 2.02 or the kernel of Debian 9 does not know.
_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize"
)
_JOURNAL_MIB = 16
_INODES_PER_MIB = 32
_TYPE_BITS = {"dir": 0o040000, "file": 0o100000}


@dataclass(frozen=True)
class Filesystem:
    """A file system inside a disk file: its place and its kind.

    Attributes:
        disk: the file, which exists and is long enough.
        offset: first byte.
        size: bytes.
        uuid: also the seed of its directory hashes.
    """

    disk: Path
    offset: int
    size: int
    label: str
    uuid: str


def write(filesystem: Filesystem, nodes: dict[str, Node], *, epoch: int) -> None:
    """Make the file system and fill it; every time that is not a node's own is ``epoch``.

    Raises:
        InfrastructureError: it does not fit, or e2fsprogs failed.
    """
    environment = {
        **os.environ,
        "E2FSPROGS_FAKE_TIME": str(epoch),
        "MKE2FS_CONFIG": "/dev/null",
        "DEBUGFS_PAGER": "cat",
        "LC_ALL": "C",
        "TZ": "UTC",
        "PATH": os.environ.get("PATH", "") + SBIN,
    }
    inodes = max(_INODES_PER_MIB * filesystem.size // _MIB, 2 * len(nodes) + 1024)
    programs.run(
        [
            "mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-I", "256", "-m", "0", "-N", str(inodes),
            "-J", f"size={_JOURNAL_MIB}", "-O", _FEATURES, "-L", filesystem.label, "-U", filesystem.uuid,
            "-E", f"offset={filesystem.offset},hash_seed={filesystem.uuid},root_owner=0:0,nodiscard,"
            "lazy_itable_init=0,lazy_journal_init=0",
            str(filesystem.disk), str(filesystem.size // BLOCK),
        ],
        what="make the file system", environment=environment,
    )  # fmt: skip
    _fill(filesystem, nodes, environment)


def _fill(filesystem: Filesystem, nodes: dict[str, Node], environment: dict[str, str]) -> None:
    scripts = filesystem.disk.with_suffix(".debugfs")
    values = filesystem.disk.with_suffix(".xattr")
    device = f"{filesystem.disk}?offset={filesystem.offset}"
    try:
        scripts.write_text("".join(_commands(nodes, values)))
        result = programs.run(
            ["debugfs", "-w", "-f", str(scripts), device], what=f"fill the file system {filesystem.label}",
            check=False, environment=environment,
        )  # fmt: skip
    finally:
        scripts.unlink(missing_ok=True)
    # debugfs ends with 0 whatever happens; anything on standard error but its banner is a failure.
    trouble = [line for line in result.stderr.splitlines() if line and not line.startswith("debugfs 1.")]
    if result.status != 0 or trouble:
        reason = trouble[0] if trouble else f"exit status {result.status}"
        raise InfrastructureError(f"image build: cannot fill the file system {filesystem.label}: {reason}")
    if values.is_dir():
        for value in values.iterdir():
            value.unlink()
        values.rmdir()


def _commands(nodes: dict[str, Node], values: Path) -> list[str]:
    commands = []
    for path, node in in_order(nodes):
        name = _quoted("/" + path)
        match node.kind:
            case "dir":
                commands.append(f"mkdir {name}\n")
            case "file":
                commands.append(f"write {_quoted(node.source)} {name}\n")
            case "link":
                commands.append(f"symlink {name} {_quoted(node.target)}\n")
        if node.kind != "link":
            commands.append(f"sif {name} mode 0{_TYPE_BITS[node.kind] | node.mode:o}\n")
        commands += [
            f"sif {name} {key} {value}\n" for key, value in (("uid", node.uid), ("gid", node.gid)) if value
        ]
        commands.append(f"sif {name} mtime @{node.mtime}\n")
        if node.capability:
            values.mkdir(exist_ok=True)
            value = values / node.capability
            value.write_bytes(bytes.fromhex(node.capability))
            commands.append(f"ea_set -f {_quoted(str(value))} {name} security.capability\n")
    return commands


def _quoted(text: str) -> str:
    """Return a word as debugfs reads it."""
    if "\n" in text:
        raise InfrastructureError(f"image build: the name {text!r} has a line break")
    return '"' + text.replace('"', '""') + '"'
