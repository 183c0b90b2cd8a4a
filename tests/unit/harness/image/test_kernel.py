import subprocess

import pytest

from bundle.errors import InfrastructureError
from harness.image import boot_kernel, cpio
from harness.image.tree import Tree
from tests.unit.harness.image.image_samples import MODULES, VERSION, small_tree


@pytest.fixture
def tree(tmp_path):
    return small_tree(tmp_path / "objects")


def test_modules_come_after_those_they_need_and_unpacked(tree):
    found = boot_kernel.find(tree)
    assert (found.version, found.image) == (VERSION, b"kernel")
    names = list(found.modules)
    assert names == ["virtio.ko", "virtio_ring.ko", "virtio_pci.ko", "virtio_blk.ko", "virtio_net.ko"]
    assert found.modules["virtio_blk.ko"] == b"block/virtio_blk"


def test_the_root_disk_needs_no_network(tree):
    assert boot_kernel.find(tree).root_modules == (
        "virtio.ko",
        "virtio_ring.ko",
        "virtio_pci.ko",
        "virtio_blk.ko",
    )


def test_the_newest_kernel_is_taken_by_number_not_by_letter(tree):
    newer = "6.1.0-10-cloud-amd64"
    tree.add_file(f"boot/vmlinuz-{newer}", b"newer")
    tree.add_file(f"{MODULES.replace(VERSION, newer)}/modules.dep", b"")
    found = boot_kernel.find(tree)
    assert (found.version, found.modules) == (newer, {})


def test_no_kernel_is_one_line(tmp_path):
    with pytest.raises(InfrastructureError, match="no kernel"):
        boot_kernel.find(Tree(tmp_path / "o", epoch=0))


def test_no_busybox_is_one_line(tree):
    tree.remove("usr/bin/busybox")
    with pytest.raises(InfrastructureError, match="no busybox"):
        boot_kernel.initramfs(tree, boot_kernel.find(tree))


def test_the_initramfs_is_what_cpio_unpacks(tree, tmp_path):
    archive = boot_kernel.initramfs(tree, boot_kernel.find(tree))
    subprocess.run(["cpio", "-i", "--quiet"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "modules" / "order").read_text().split() == list(boot_kernel.find(tree).root_modules)
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "modules" / "virtio.ko").read_bytes() == b"virtio/virtio"
    assert (tmp_path / "proc").is_dir()


def test_cpio_bytes_do_not_depend_on_insertion():
    assert cpio.archive({"b/x": b"1", "a": b"2"}) == cpio.archive({"a": b"2", "b/x": b"1"})
