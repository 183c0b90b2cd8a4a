"""Images that strangers made to hurt: each is refused in one line, within the limits, and nothing of it is kept."""

import bz2
import gzip
import lzma
import random
import struct
import subprocess
from dataclasses import replace

import pytest

from bundle.archive.limits import ImageLimits
from bundle.errors import UsageError
from harness.host import cache
from harness.image import boot_kernel, disk, importing, partitions, unpacking
from harness.image.extreader import ExtReader
from tests.unit.harness.image.image_samples import small_tree

SMALL = ImageLimits(disk=1 << 30, file=1 << 20, text=1 << 16, small=1 << 20, factor=100)
RELEASE = b"Cloudstack Release 4.20.1 Fri May\n"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))


def template(folder, files, release=RELEASE):
    tree = small_tree(folder / "objects")
    tree.add_file("etc/cloudstack-release", release)
    for path, content in files.items():
        tree.add_file(path, content)
    layout = disk.DiskLayout.of("0" * 32, disk_mib=96, var_mib=0)
    disk.write(tree, layout, folder / "t.qcow2")
    return folder / "t.qcow2"


def refused(file, limits=SMALL):
    with pytest.raises(UsageError) as error:
        importing.take(file, "4.20", limits=limits)
    assert "\n" not in error.value.diagnostics()
    assert cache.entries("images") == []
    return str(error.value)


@pytest.mark.parametrize(
    ("suffix", "pack"), [("xz", lzma.compress), ("bz2", bz2.compress), ("gz", gzip.compress)]
)
def test_a_bomb_is_not_unpacked(tmp_path, suffix, pack):
    path = tmp_path / f"t.qcow2.{suffix}"
    path.write_bytes(pack(b"QFI\xfb" + b"\0" * (8 << 20)))
    assert "unpacks to more than 1048576 bytes" in refused(path)


def test_a_bomb_of_zstd_is_not_unpacked(tmp_path):
    (tmp_path / "t.qcow2").write_bytes(b"QFI\xfb" + b"\0" * (8 << 20))
    subprocess.run(["zstd", "-q", tmp_path / "t.qcow2"], check=True)
    assert "unpacks to more than 1048576 bytes" in refused(tmp_path / "t.qcow2.zst")


def test_a_decoder_that_wants_much_memory_is_refused(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 << 20}]
    path = tmp_path / "t.qcow2.xz"
    path.write_bytes(lzma.compress(b"QFI\xfb", filters=filters))
    assert "emory" in refused(path)


def test_several_streams_of_xz_are_one_file(tmp_path):
    path = tmp_path / "packed.xz"
    path.write_bytes(lzma.compress(b"one ") + b"\0" * 8 + lzma.compress(b"two") + b"\0" * 4)
    unpacking.unpack(path, tmp_path / "whole", SMALL)
    assert (tmp_path / "whole").read_bytes() == b"one two"


def test_a_disk_larger_than_any_template_is_refused(tmp_path):
    path = tmp_path / "t.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "2T"], check=True)
    assert "is a disk of 2199023255552 bytes" in refused(path)


def test_a_large_file_inside_is_not_read(tmp_path):
    path = template(tmp_path, {"var/cache/cloud/cloud-scripts-signature": b"x" * (SMALL.text + 1)})
    assert f"has {SMALL.text + 1} bytes (at most {SMALL.text} are read)" in refused(path)


def test_a_hole_of_gigabytes_inside_is_not_read(tmp_path):
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["/sbin/mke2fs", "-q", "-F", "-t", "ext4", raw], check=True)
    (tmp_path / "hole").write_bytes(b"")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(12 << 30)
    subprocess.run(
        ["/sbin/debugfs", "-w", "-R", f"write {tmp_path / 'hole'} hole", raw], check=True, capture_output=True
    )
    with pytest.raises(UsageError, match="has 12884901888 bytes"):
        ExtReader(raw, 0).read("hole")


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "x" * 5000])
def test_a_name_that_no_file_can_have_is_not_asked_for(tmp_path, name):
    (tmp_path / "raw").write_bytes(b"")
    with pytest.raises(KeyError):
        ExtReader(tmp_path / "raw", 0).read(name)


def test_bytes_that_are_no_text_are_no_traceback(tmp_path):
    path = template(
        tmp_path, {"etc/debian_version": b"\xff" * 40, "var/lib/dpkg/status": b"Status: x installed\n"}
    )
    assert "cannot be read as a template (KeyError: 'Package')" in refused(path)


def test_modules_that_need_each_other_are_read_once():
    class Files:
        def names(self, folder):
            return ["vmlinuz-6.1"]

        def read(self, path):
            return (
                b"virtio_pci.ko: ext4.ko\next4.ko: virtio_pci.ko\n"
                if path.endswith("modules.dep")
                else b"code"
            )

    assert sorted(boot_kernel.find(Files()).modules) == ["ext4.ko", "virtio_pci.ko"]


def test_a_packed_module_is_a_bomb_no_more():
    with pytest.raises(UsageError, match="unpacks to more than 1024 bytes"):
        unpacking.unpacked(lzma.compress(b"\0" * 2000), ".xz", "m.ko.xz", replace(SMALL, file=1024))


def gpt(table, count, length):
    first = b"\0" * 450 + b"\xee" + b"\0" * 59 + b"\x55\xaa"
    return first + b"EFI PART".ljust(72, b"\0") + struct.pack("<QII", table, count, length).ljust(440, b"\0")


@pytest.mark.parametrize(
    ("table", "count", "length"),
    [(2, 128, 1 << 31), (2, 128, 0), ((1 << 64) - 1, 1, 128), (2, 0xFFFFFFFF, 4096)],
)
def test_a_gpt_with_wild_numbers_has_no_partitions(tmp_path, table, count, length):
    (tmp_path / "raw").write_bytes(gpt(table, count, length) + b"\0" * 4096)
    assert partitions.read(tmp_path / "raw") == []


def test_tables_of_any_bytes_are_read_without_an_error(tmp_path):
    drawn, path = random.Random(23), tmp_path / "raw"
    for _ in range(300):
        content = bytearray(gpt(2, 4, 128) + b"\1" * 1024)
        for _ in range(drawn.randrange(1, 60)):
            content[drawn.randrange(446, len(content))] = drawn.choice(
                (0, 5, 0xEE, 0xFF, drawn.randrange(256))
            )
        content[510:512] = b"\x55\xaa"
        path.write_bytes(content)
        found = partitions.read(path)
        assert len(found) <= 128
        assert not any(ExtReader(path, partition.offset).valid() for partition in found)
