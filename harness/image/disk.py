"""A bootable disk from a tree: partition table, GRUB, file systems; as qcow2. No loop device, no mount, no root."""

from __future__ import annotations

import os
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path

from bundle import programs
from bundle.errors import InfrastructureError
from harness.image import ext4
from harness.image.tree import Tree

MIB = 1024 * 1024
_SECTOR = 512
_NAMESPACE = uuid.UUID("5b1f0f3e-6d0c-5b8a-9a57-7d3f2c1e4a60")
_LINUX = 0x83
_ACTIVE = 0x80
# Where the boot code ends and the partition table begins in the first sector.
_BOOT_CODE = 440
_TABLE = 446
# The last usable position on disks that are addressed by cylinder and head: "look at the sector numbers instead".
_BEYOND_CHS = b"\xfe\xff\xff"


@dataclass(frozen=True)
class DiskLayout:
    """Sizes of a disk and identifiers of its file systems, both from the image's key."""

    size: int
    var_size: int
    root_uuid: str
    var_uuid: str
    disk_id: int

    @classmethod
    def of(cls, key: str, *, disk_mib: int, var_mib: int) -> DiskLayout:
        """Return the layout; a ``var_mib`` of 0 means that /var is no file system of its own."""
        return cls(
            size=disk_mib * MIB,
            var_size=var_mib * MIB,
            root_uuid=str(uuid.uuid5(_NAMESPACE, f"root {key}")),
            var_uuid=str(uuid.uuid5(_NAMESPACE, f"var {key}")),
            disk_id=int(key[:8], 16),
        )

    def partitions(self) -> list[tuple[int, int]]:
        """Return offset and size of each partition, in bytes."""
        first = MIB
        root = self.size - first - self.var_size
        return [(first, root)] + ([(first + root, self.var_size)] if self.var_size else [])


def write(tree: Tree, layout: DiskLayout, target: Path) -> None:
    """Write the disk.

    Args:
        tree: the root file system; ``boot/grub/i386-pc`` has GRUB's images. Its ``var`` is emptied if that is apart.
        layout: sizes and identifiers.
        target: the qcow2 file, made in the folder of a raw disk that exists only meanwhile.
    """
    raw = target.with_suffix(".raw")
    boot, core = (tree.read(f"boot/grub/i386-pc/{name}.img") for name in ("boot", "core"))
    parts = layout.partitions()
    contents = [("root", layout.root_uuid, tree.nodes)]
    if layout.var_size:
        var = tree.split("var")
        contents = [("root", layout.root_uuid, tree.nodes), ("var", layout.var_uuid, var)]
    with raw.open("wb") as file:
        file.truncate(layout.size)
        file.write(first_sector(boot, layout))
        if _SECTOR + len(core) > parts[0][0]:
            raise InfrastructureError(
                f"image build: GRUB's core image ({len(core)} bytes) does not fit the gap"
            )
        file.write(core)
    for (offset, size), (name, identifier, nodes) in zip(parts, contents, strict=True):
        ext4.write(ext4.Filesystem(raw, offset, size, f"sysvm-{name}", identifier), nodes, epoch=tree.epoch)
    _convert(raw, target)
    raw.unlink()


def first_sector(boot: bytes, layout: DiskLayout) -> bytes:
    """Return the master boot record: GRUB's boot code, which loads what follows from sector 1, and the partitions."""
    table = b"".join(
        struct.pack(
            "<B3sB3sII",
            _ACTIVE if number == 0 else 0,
            _BEYOND_CHS,
            _LINUX,
            _BEYOND_CHS,
            offset // _SECTOR,
            size // _SECTOR,
        )
        for number, (offset, size) in enumerate(layout.partitions())
    )
    head = boot[:_BOOT_CODE] + struct.pack("<IH", layout.disk_id, 0)
    return head + table.ljust(_SECTOR - _TABLE - 2, b"\0") + b"\x55\xaa"


def _convert(raw: Path, target: Path) -> None:
    """Compress nothing: reading compressed clusters costs a guest more than the disk space is worth."""
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1,lazy_refcounts=off"]
    programs.run([*command, os.fspath(raw), os.fspath(target)], what="write the image's disk")
