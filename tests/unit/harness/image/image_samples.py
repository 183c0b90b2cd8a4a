"""A root file system in miniature: everything that building and importing look at, and nothing that could boot."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from harness.image.tree import Tree

VERSION = "6.1.0-9-cloud-amd64"
MODULES = f"usr/lib/modules/{VERSION}"
MODULES_DEP = """kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/net/virtio_net.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/other/unrelated.ko:
"""
STATUS = """Package: haproxy
Status: install ok installed
Architecture: amd64
Version: 2.6.12-1
Description: proxy
 Status: not a field

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: libx
Status: install ok installed
Architecture: amd64
Source: xorg (1:2)
Version: 1:3~4
"""
UNIT = "[Unit]\nDescription=x\n\n[Install]\nWantedBy=multi-user.target\n"


def small_tree(objects: Path) -> Tree:
    """Return the miniature."""
    import lzma

    tree = Tree(objects, epoch=1_000_000_000)
    tree.add_dir("usr/lib")
    tree.add_link("lib", "usr/lib")
    tree.add_dir("root", 0o700)
    tree.add_dir("tmp", 0o1777)
    tree.add_file("etc/debian_version", b"12.9\n")
    tree.add_file("etc/ssh/ssh_host_rsa_key", b"secret")
    tree.add_file("etc/apt/sources.list", b"deb http://mirror.invalid/debian bookworm main\n")
    tree.add_file("var/log/dpkg.log", b"today")
    tree.add_file("var/lib/dpkg/status", STATUS.encode())
    tree.add_file("usr/bin/busybox", b"busybox", 0o755)
    tree.add_file('usr/bin/a file\'s "name"', b"odd", 0o4755, uid=33, gid=44)
    tree.add_file(f"boot/vmlinuz-{VERSION}", b"kernel")
    tree.add_link("boot/vmlinuz", f"vmlinuz-{VERSION}")
    tree.add_file("boot/grub/i386-pc/boot.img", b"B" * 512)
    tree.add_file("boot/grub/i386-pc/core.img", b"C" * 5000)
    tree.add_file(f"{MODULES}/modules.dep", MODULES_DEP.encode())
    for name in ("virtio/virtio", "virtio/virtio_ring", "virtio/virtio_pci", "net/virtio_net"):
        tree.add_file(f"{MODULES}/kernel/drivers/{name}.ko", name.encode())
    tree.add_file(f"{MODULES}/kernel/drivers/block/virtio_blk.ko.xz", lzma.compress(b"block/virtio_blk"))
    tree.add_file("lib/systemd/system/haproxy.service", UNIT.encode())
    tree.add_link(
        "etc/systemd/system/multi-user.target.wants/haproxy.service", "/lib/systemd/system/haproxy.service"
    )
    return tree


def scripts_archive(files: dict[str, bytes], *, folders: tuple[str, ...] = ()) -> bytes:
    """Return a ``cloud-scripts.tgz`` with these files, mode 0755."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in folders:
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
