"""Boot files of an image: its kernel, the modules a virtual machine needs at once, and the small initramfs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from bundle.errors import InfrastructureError
from bundle.paths import payload_root
from harness.image import cpio, unpacking
from harness.image.tree import Tree

# What a machine with virtio devices needs: disk, network, guest agent channel. In this order; ext4 does not say that it
# needs its checksum, which only kernels for clouds have built in.
WANTED = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "virtio_net", "virtio_console", "af_packet")
# What the initramfs loads before the root file system is there; the rest is udev's business, later.
_ROOT_DISK = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
_PREFIX = "vmlinuz-"
_BUSYBOX = ("usr/bin/busybox", "bin/busybox")


class Files(Protocol):
    """The files of a guest, wherever they are kept."""

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder."""

    def read(self, path: str) -> bytes:
        """Return a file's content."""


@dataclass(frozen=True)
class BootKernel:
    """The kernel of an image.

    Attributes:
        version: as ``uname -r`` says it.
        image: the compressed kernel.
        modules: names and contents of ``WANTED`` with what they depend on, in load order; built-in ones are absent.
        root_modules: the part of ``modules`` that the root disk needs.
    """

    version: str
    image: bytes
    modules: dict[str, bytes]
    root_modules: tuple[str, ...]


def versions(files: Files) -> list[str]:
    """Return the versions of the kernels in ``/boot``, the newest last."""
    found = [name.removeprefix(_PREFIX) for name in files.names("boot") if name.startswith(_PREFIX)]
    return sorted(found, key=lambda version: [int(n) for n in re.findall(r"\d+", version)])


def find(files: Files) -> BootKernel:
    """Return the newest kernel.

    Raises:
        InfrastructureError: there is none.
    """
    if not (found := versions(files)):
        raise InfrastructureError(
            "the image has no kernel in /boot", hint="look at the package set of its release"
        )
    version = found[-1]
    folder = f"lib/modules/{version}"
    depends = _dependencies(files.read(f"{folder}/modules.dep").decode(errors="replace"))
    order = _load_order(WANTED, depends)
    return BootKernel(
        version=version,
        image=files.read(f"boot/{_PREFIX}{version}"),
        modules={_file_name(path): _module(files, f"{folder}/{path}") for path in order},
        root_modules=tuple(_file_name(path) for path in _load_order(_ROOT_DISK, depends)),
    )


def initramfs(tree: Tree, kernel: BootKernel) -> bytes:
    """Return an uncompressed initramfs that mounts the root disk: unpacking costs time under emulation."""
    busybox = next((p for p in _BUSYBOX if tree.resolve(p) in tree), None)
    if busybox is None:
        raise InfrastructureError(
            "the image has no busybox", hint="the package busybox-static must be in its set"
        )
    files = {
        "init": (payload_root() / "template" / "initramfs" / "init").read_bytes(),
        "bin/busybox": tree.read(busybox),
        "modules/order": "".join(f"{name}\n" for name in kernel.root_modules).encode(),
        **{f"modules/{name}": kernel.modules[name] for name in kernel.root_modules},
    }
    folders = ("dev", "proc", "sys", "root")
    return cpio.archive(files, folders=folders, executable=("init", "bin/busybox"))


def _dependencies(text: str) -> dict[str, tuple[str, list[str]]]:
    """Parse ``modules.dep``: module name to its path and the paths it needs."""
    table = {}
    for line in text.splitlines():
        path, _, needs = line.partition(":")
        table[_name(path)] = (path, needs.split())
    return table


def _load_order(wanted: tuple[str, ...], depends: dict[str, tuple[str, list[str]]]) -> list[str]:
    """Return paths so that each module comes after those it needs. A name that is no module is built in."""
    order: list[str] = []
    begun: set[str] = set()

    def add(path: str) -> None:
        if path in begun:
            return
        begun.add(path)
        for need in depends[_name(path)][1]:
            add(need)
        order.append(path)

    for name in wanted:
        if name in depends:
            add(depends[name][0])
    return order


def _name(path: str) -> str:
    return PurePosixPath(path).name.split(".")[0].replace("-", "_")


def _file_name(path: str) -> str:
    return PurePosixPath(path).name.split(".")[0] + ".ko"


def _module(files: Files, path: str) -> bytes:
    return unpacking.unpacked(files.read(path), Path(path).suffix, path)
