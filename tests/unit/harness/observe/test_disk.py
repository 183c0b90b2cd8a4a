"""A disk that the host reads: its partitions, what is mounted where, and a host that cannot."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.observe import disk, files, observation
from harness.observe.disk import mounts, on_disk, partitions
from harness.observe.ext4_attributes import UnreadableFileSystem
from tests.unit.harness.observe.test_ext4 import MIB, Image, made
from tests.unit.harness.simulated_patch import before as simulated

MOUNTED = r"""
25 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
26 25 0:5 / /proc rw - proc proc rw
27 25 0:6 / /run rw shared:5 master:2 - tmpfs tmpfs rw,size=96208k
28 25 254:2 / /boot rw - ext2 /dev/vda2 rw
29 25 254:1 /etc /mnt/other\040name rw - ext4 /dev/vda1 rw
30 25 254:1 / /again rw - ext4 /dev/vda1 rw
31 25 254:17 / /data rw - ext4 /dev/vdb1 rw
""".lstrip()


def record(*entries: tuple[int, int], sector: bytes = b"") -> bytes:
    rows = b"".join(struct.pack("<4xB3xI4x", kind, first) for kind, first in entries)
    return sector.ljust(446, b"\0") + rows.ljust(64, b"\0") + b"\x55\xaa"


def test_a_disk_without_a_table_is_one_file_system():
    assert partitions(Image(b"\0" * 4096)) == {0: 0}


def test_partitions_of_a_boot_record_are_found_with_the_logical_ones():
    content = bytearray(200 * 512)
    content[:512] = record((0x83, 8), (0, 0), (0x05, 50))
    content[50 * 512 : 51 * 512] = record((0x83, 2), (0x05, 20))
    content[70 * 512 : 71 * 512] = record((0x82, 3), (0, 0))
    assert partitions(Image(bytes(content))) == {0: 0, 1: 8 * 512, 5: 52 * 512, 6: 73 * 512}


def test_a_boot_record_that_leads_in_a_circle_ends():
    content = bytearray(200 * 512)
    content[:512] = record((0x05, 50))
    content[50 * 512 : 51 * 512] = record((0x83, 2), (0x05, 0x0))
    content[50 * 512 : 51 * 512] = record((0x83, 2), (0x05, 50))
    content[100 * 512 : 101 * 512] = record((0x83, 2), (0x05, 50))
    assert len(partitions(Image(bytes(content)))) < 64


def test_partitions_of_a_gpt_are_found():
    content = bytearray(64 * 512)
    content[:512] = record((0xEE, 1))
    content[512:1024] = (b"EFI PART".ljust(72, b"\0") + struct.pack("<QII", 2, 4, 128)).ljust(512, b"\0")
    for number, first in ((0, 34), (2, 50)):
        at = 1024 + number * 128
        content[at : at + 128] = (b"\1" * 32 + struct.pack("<QQ", first, 60)).ljust(128, b"\0")
    assert partitions(Image(bytes(content))) == {0: 0, 1: 34 * 512, 3: 50 * 512}


def test_whole_file_systems_of_the_disk_are_read_once_and_others_are_not():
    found = {device: mount.point for device, mount in on_disk(mounts(MOUNTED)).items()}
    assert found == {"/dev/vda1": "/", "/dev/vda2": "/boot"}
    assert mounts(MOUNTED)[4].point == "/mnt/other name"


def test_the_guest_lists_what_the_host_does_not_read(tmp_path):
    """The command and the host sort what is mounted in the same way."""
    (tmp_path / "mountinfo").write_text(MOUNTED)
    sort = files._BESIDE_DISK.replace("/proc/self/mountinfo", str(tmp_path / "mountinfo"))
    done = subprocess.run(
        ["bash", "-c", f'{sort} printf "%s\\n" "${{disk[@]}}" . "${{roots[@]}}"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["/", "/boot", ".", "/run", "/mnt/other name", "/again", "/data"]


@pytest.fixture
def shown(tmp_path):
    """Make a disk with two file systems, one mounted in a folder of the other."""
    root, boot = tmp_path / "root", tmp_path / "boot"
    for folder in ("etc", "boot", "run", "usr"):
        (root / folder).mkdir(parents=True)
    (root / "etc/one").write_text("one")
    (root / "usr/other").write_text("other")
    (root / "boot/hidden").write_text("below the mount")
    (root / "run/hidden").write_text("below the mount")
    boot.mkdir()
    (boot / "kernel").write_text("k")
    content = bytearray(48 * MIB)
    content[:512] = record((0x83, 2048), (0x83, 2048 * 20))
    for at, tree in ((MIB, root), (20 * MIB, boot)):
        image = made(tree, tmp_path / f"{at}.img", size="16M").read_bytes()
        content[at : at + len(image)] = image
    return Image(bytes(content))


def test_what_a_mount_covers_is_not_on_the_list(shown):
    found = {row.fields[9] for row in disk.listed(shown, mounts(MOUNTED))}
    assert found == {
        "/", "/etc", "/etc/one", "/usr", "/usr/other", "/lost+found", "/boot", "/boot/kernel", "/boot/lost+found"
    }  # fmt: skip


def sections(**outputs: str):
    given = {
        "state.owners": "root:x:0:0:\n\nroot:x:0:\n",
        "state.mounts": MOUNTED,
        "state.clock": "5.5",
        **outputs,
    }
    names = files.commands(["/etc"], ["/"], beside=True)
    return {name: files.Section(name, 0, given.get(name, "").encode()) for name in names}


def test_contents_are_known_below_the_folders_and_of_what_was_written(shown):
    first = files.parse(sections(), ["/etc"], blocks=shown)
    assert first.from_host
    assert first.entries["/etc/one"].sha256 == hashlib.sha256(b"one").hexdigest()
    assert (first.entries["/usr/other"].sha256, first.entries["/etc/one"].owner) == ("", "root")
    later = files.parse(sections(), ["/etc"], earlier=first, blocks=shown)
    assert files.diff(first, later) == ()
    other = first.entries["/usr/other"]
    touched = {
        **first.entries,
        "/usr/other": files.replace(other, stamp=files.replace(other.stamp, changed="1.0")),
    }
    later = files.parse(sections(), ["/etc"], earlier=files.replace(first, entries=touched), blocks=shown)
    assert later.entries["/usr/other"].sha256 == hashlib.sha256(b"other").hexdigest()


def test_a_root_that_the_host_does_not_know_is_said(shown):
    with pytest.raises(UnreadableFileSystem, match="root file system"):
        list(disk.listed(shown, mounts(MOUNTED.replace("/dev/vda1", "/dev/mapper/root"))))
    with pytest.raises(UnreadableFileSystem, match="partition 7"):
        list(disk.listed(shown, mounts(MOUNTED.replace("/dev/vda2", "/dev/vda7"))))


def test_attributes_are_compared_where_both_could_list_them():
    state = simulated().observation().state
    path = "/usr/bin/ping"
    entry = files.PathState(path, "file", 0o755, "root", "root")
    told = files.replace(
        state, from_host=False, with_xattrs=True, with_flags=True, entries={**state.entries, path: entry}
    )
    entry = files.replace(entry, xattrs=(("security.capability", "0x01"),), flags="i")
    seen = files.replace(told, entries={**told.entries, path: entry})
    assert [difference.change for difference in files.diff(told, seen)] == ["flags", "attributes"]
    assert files.diff(files.replace(told, from_host=True), seen) == ()


@pytest.mark.parametrize(
    ("error", "status"),
    [(OSError("gone"), 0), (UnreadableFileSystem("odd"), 0), (struct.error("short"), 0), (None, 1)],
)
def test_what_the_host_cannot_read_the_guest_is_asked_for(monkeypatch, error, status):
    """Among that is a disk that the guest could not bring up to date."""
    asked = []

    class Guest:
        name = "r-1-VM"

        @staticmethod
        def run(command, deadline, check):
            return SimpleNamespace(status=0, stdout="2000.5\n")

        @staticmethod
        @contextlib.contextmanager
        def disk():
            raise error or AssertionError("nobody looks at an old disk")
            yield

    def collect(guest, commands, deadline, beside=()):
        asked.append(set(commands))
        return {name: files.Section(name, status if name == "state.written" else 0, b"") for name in commands}

    monkeypatch.setattr(observation, "collect", collect)
    seen = replace(simulated().observation(), state=files.DiskState((), {}))
    monkeypatch.setattr(observation, "_parsed", lambda sections, state, name: replace(seen, state=state))
    state = observation.observe(Guest()).state
    assert (state.from_host, bool(state.unread)) == (False, True)
    assert "state.mounts" in asked[0]
    assert asked[1] == set(files.commands())


def test_boot_code_is_what_lies_outside_of_file_systems(shown):
    first = disk.boot_code(shown, mounts(MOUNTED))
    assert set(first) == {"the disk before its partitions", "partition 1", "partition 2"}
    for at, place in ((100, "the disk before its partitions"), (MIB - 1, "the disk before its partitions"),
                      (MIB + 10, "partition 1"), (20 * MIB + 1023, "partition 2")):  # fmt: skip
        content = bytearray(shown.content)
        content[at] ^= 1
        changed = disk.boot_code(Image(bytes(content)), mounts(MOUNTED))
        assert {name for name in first if first[name] != changed[name]} == {place}
    content = bytearray(shown.content)
    content[MIB + 5000] ^= 1
    assert disk.boot_code(Image(bytes(content)), mounts(MOUNTED)) == first


def test_a_partition_that_is_not_mounted_is_boot_code():
    content = bytearray(200 * 512)
    content[:512] = struct.pack("<446x4xB3xII", 0x83, 8, 20).ljust(510, b"\0") + b"\x55\xaa"
    first = disk.boot_code(Image(bytes(content)), ())
    content[9 * 512] = 1
    changed = disk.boot_code(Image(bytes(content)), ())
    assert {name for name in first if first[name] != changed[name]} == {"partition 1"}


def test_room_that_no_path_takes_is_known(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "one").write_bytes(b"1" * 500_000)
    image = made(root, tmp_path / "image", size="16M")
    rows = mounts("25 1 254:1 / / rw - ext4 /dev/vda rw\n")

    def seen():
        return disk.nameless(list(disk.listed(Image(image.read_bytes()), rows)))

    first = seen()
    subprocess.run(["debugfs", "-w", "-R", "ln /one /other", image], check=True, capture_output=True)
    assert seen() == first
    for name in ("one", "other"):
        subprocess.run(["debugfs", "-w", "-R", f"unlink /{name}", image], check=True, capture_output=True)
    assert 500_000 <= seen() - first < 510_000


def test_host_and_guest_tell_the_numbers_of_devices_alike(tmp_path, local_guest):
    root = tmp_path / "root"
    root.mkdir()
    os.mknod(root / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(root / "large", stat.S_IFBLK | 0o600, os.makedev(259, 70_000))
    image = Image(made(root, tmp_path / "image", size="16M").read_bytes())
    paths = disk.listed(image, mounts("25 1 254:1 / / rw - ext4 /dev/vda rw\n"))
    by_host = {row.fields[9]: row.device for row in paths if row.device}
    assert by_host == {"/null": "1:3", "/large": "103:11170"}
    by_guest = files.take(local_guest, [str(root)]).entries
    assert {path: by_guest[f"{root}{path}"].device for path in by_host} == by_host
