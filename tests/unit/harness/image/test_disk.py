import dataclasses
import os
import shutil
import subprocess

import pytest

from bundle.errors import InfrastructureError
from harness.image import disk, ext4, partitions
from harness.image.building import file_digest
from harness.image.extreader import ExtReader
from tests.unit.harness.image.image_samples import VERSION, small_tree

MIB = 1024 * 1024
UUID = "11111111-2222-3333-4444-555555555555"


def request(path, offset, command):
    done = subprocess.run(
        ["debugfs", "-R", command, f"{path}?offset={offset}"],
        capture_output=True, text=True, check=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"},
    )  # fmt: skip
    return done.stdout


def filesystem(path, size=40 * MIB):
    with path.open("wb") as file:
        file.truncate(size + MIB)
    return ext4.Filesystem(path, MIB, size, "sysvm-root", UUID)


@pytest.fixture
def written(tmp_path):
    found = filesystem(tmp_path / "fs.raw")
    ext4.write(found, small_tree(tmp_path / "objects").nodes, epoch=1_000_000_000)
    return found


def test_the_file_system_is_sound(written):
    command = ["e2fsck", "-fn", f"{written.disk}?offset={written.offset}"]
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    assert subprocess.run(command, capture_output=True, check=False, env=environment).returncode == 0


def test_owner_mode_and_time_are_the_nodes_own(written):
    stat = request(written.disk, written.offset, 'stat "/usr/bin/a file\'s ""name"""')
    assert "Mode:  04755" in stat
    assert "User:    33   Group:    44" in stat
    assert "mtime: 0x3b9aca00" in stat


def test_contents_and_links_are_read_back(written):
    reader = ExtReader(written.disk, written.offset)
    assert reader.valid()
    assert reader.read("etc/debian_version") == b"12.9\n"
    assert reader.read("boot/vmlinuz") == b"kernel"
    assert reader.read(f"lib/modules/{VERSION}/modules.dep").startswith(b"kernel/")
    assert reader.names("boot") == ["grub", "vmlinuz", f"vmlinuz-{VERSION}"]
    with pytest.raises(KeyError):
        reader.read("etc/absent")
    with pytest.raises(KeyError):
        reader.read("etc")


def test_the_same_tree_gives_the_same_bytes_whatever_the_host_calls_its_files(written, tmp_path):
    again = filesystem(tmp_path / "again.raw")
    nodes = small_tree(tmp_path / "other" / "objects").nodes
    ext4.write(again, dict(reversed(nodes.items())), epoch=1_000_000_000)
    assert file_digest(again.disk) == file_digest(written.disk)


def test_file_capabilities_are_written(tmp_path):
    tree = small_tree(tmp_path / "objects")
    node = tree.nodes["usr/bin/busybox"]
    tree.nodes["usr/bin/busybox"] = dataclasses.replace(node, capability="01000002" + "0020" + "00" * 14)
    found = filesystem(tmp_path / "fs.raw")
    ext4.write(found, tree.nodes, epoch=0)
    assert "01 00 00 02 00 20" in request(
        found.disk, found.offset, "ea_get -x /usr/bin/busybox security.capability"
    )
    assert not found.disk.with_suffix(".xattr").exists()


def test_what_does_not_fit_is_an_error_not_a_short_file(tmp_path):
    tree = small_tree(tmp_path / "objects")
    tree.add_file("big", b"\1" * (30 * MIB))
    with pytest.raises(InfrastructureError, match="cannot fill the file system sysvm-root"):
        ext4.write(filesystem(tmp_path / "fs.raw"), tree.nodes, epoch=0)
    assert not (tmp_path / "fs.debugfs").exists()


def test_a_name_with_a_line_break_is_refused(tmp_path):
    tree = small_tree(tmp_path / "objects")
    tree.add_file("etc/a\nrm etc/passwd", b"")
    with pytest.raises(InfrastructureError, match="line break"):
        ext4.write(filesystem(tmp_path / "fs.raw"), tree.nodes, epoch=0)


def test_a_disk_has_boot_code_table_and_both_file_systems(tmp_path):
    layout = disk.DiskLayout.of("0123456789abcdef", disk_mib=96, var_mib=48)
    tree = small_tree(tmp_path / "objects")
    disk.write(tree, layout, tmp_path / "disk.qcow2")
    raw = tmp_path / "back.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", tmp_path / "disk.qcow2", raw], check=True)
    first = raw.read_bytes()[: 512 + 5000]
    assert first[:440] == b"B" * 440
    assert first[440:444] == bytes.fromhex("67452301")
    assert first[512:] == b"C" * 5000
    assert partitions.read(raw) == [(1, MIB, 47 * MIB), (2, 48 * MIB, 48 * MIB)]
    assert ExtReader(raw, 48 * MIB).read("lib/dpkg/status").startswith(b"Package: haproxy")
    assert ExtReader(raw, MIB).names("var") == []
    assert not (tmp_path / "disk.raw").exists()


def test_a_boot_loader_that_does_not_fit_is_refused(tmp_path):
    tree = small_tree(tmp_path / "objects")
    tree.add_file("boot/grub/i386-pc/core.img", b"C" * MIB)
    with pytest.raises(InfrastructureError, match="does not fit the gap"):
        disk.write(tree, disk.DiskLayout.of("0" * 16, disk_mib=64, var_mib=0), tmp_path / "disk.qcow2")


def test_identifiers_follow_the_key():
    one, two = (disk.DiskLayout.of(key * 8, disk_mib=64, var_mib=0) for key in ("ab", "cd"))
    assert one == disk.DiskLayout.of("ab" * 8, disk_mib=64, var_mib=0)
    assert len({one.root_uuid, one.var_uuid, two.root_uuid, two.var_uuid}) == 4


def test_missing_tools_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("harness.image.ext4.SBIN", "")
    assert shutil.which("mke2fs") is None
    with pytest.raises(InfrastructureError, match="mke2fs is not installed"):
        ext4.write(filesystem(tmp_path / "fs.raw"), {}, epoch=0)
