"""The RAM of a guest that is to be frozen: in memory, in a snapshot, and nowhere after a kill."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from types import SimpleNamespace

import pytest

from bundle.errors import InfrastructureError
from harness.host.hypervisor import PREFIX
from harness.machine import ram

MIB = 1 << 20
QEMU = SimpleNamespace(uid=os.geteuid(), gid=os.getegid())


@pytest.fixture
def name():
    """A domain's name of this test's own, whose files are gone afterwards."""
    unique = f"{PREFIX}test{secrets.token_hex(4)}"
    yield unique
    for path in ram.MEMORY.glob(f"{unique}*"):
        path.unlink()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "system.ram"


def write(path, *pieces):
    """Write as QEMU would: (offset, bytes) each."""
    with path.open("r+b") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)


def test_ram_is_in_memory_and_is_kept_with_its_holes(name, target):
    file = ram.make(target, 8, QEMU, name)
    assert file.path == ram.MEMORY / f"{name}.ram"
    assert file.path.stat().st_mode & 0o777 == 0o600
    write(file.path, (0, b"start"), (3 * MIB + 5, b"middle"), (8 * MIB - 3, b"end"))
    file.hide()
    assert not file.path.exists()
    assert not target.exists()
    file.keep(QEMU)
    file.close()
    content = target.read_bytes()
    assert len(content) == 8 * MIB
    assert (content[:5], content[3 * MIB + 5 :][:6], content[-3:]) == (b"start", b"middle", b"end")
    assert content.count(0) == 8 * MIB - len(b"startmiddleend")
    assert target.stat().st_blocks * 512 < MIB
    assert target.stat().st_mode & 0o777 == 0o600


def test_closing_gives_the_name_back_and_may_come_twice(name, target):
    file = ram.make(target, 1, QEMU, name)
    file.close()
    file.close()
    assert not file.path.exists()
    file.keep(QEMU)
    assert not target.exists()


def without_room(monkeypatch):
    def allocate(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", allocate)


def without_memory(monkeypatch):
    monkeypatch.setattr(ram, "MEMORY", ram.MEMORY / "no-such-folder")


@pytest.mark.parametrize("lack", [without_room, without_memory])
def test_ram_is_in_the_snapshot_at_once_where_memory_has_no_room(lack, name, target, monkeypatch):
    lack(monkeypatch)
    file = ram.make(target, 2, QEMU, name)
    assert file.path == target
    assert target.stat().st_size == 2 * MIB
    assert target.stat().st_blocks == 0
    write(file.path, (7, b"x"))
    file.hide()
    file.keep(QEMU)
    file.close()
    assert target.read_bytes()[7:8] == b"x"
    assert not list(ram.MEMORY.glob(f"{name}*"))


def test_a_name_that_is_taken_is_left_alone(name, target):
    theirs = ram.MEMORY / f"{name}.ram"
    theirs.write_text("theirs")
    file = ram.make(target, 1, QEMU, name)
    file.close()
    assert file.path == target
    assert theirs.read_text() == "theirs"


def test_a_full_disk_is_one_line(name, target, monkeypatch):
    file = ram.make(target, 1, QEMU, name)
    write(file.path, (0, b"x"))

    def send(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "sendfile", send)
    with pytest.raises(InfrastructureError, match=r"system\.ram: No space left on device$"):
        file.keep(QEMU)
    file.close()


def test_what_a_killed_run_left_is_removed_and_what_is_in_use_is_not(name, target, tmp_path):
    used = ram.make(target, 1, QEMU, name)
    left = ram.MEMORY / f"{name}-left.ram"
    left.write_bytes(b"")
    (tmp_path / "precious").touch()
    link = ram.MEMORY / f"{name}-link.ram"
    link.symlink_to(tmp_path / "precious")
    ram.remove_abandoned(QEMU)
    assert not left.exists()
    assert used.path.exists()
    assert link.is_symlink()
    assert (tmp_path / "precious").exists()
    used.close()


def test_only_files_of_ourselves_and_of_qemus_user_are_removed(name):
    theirs = ram.MEMORY / f"{name}.ram"
    theirs.touch()
    stranger = SimpleNamespace(uid=theirs.stat().st_uid + 1, gid=0)
    if os.geteuid() == 0:
        os.chown(theirs, 4321, 4321)
        ram.remove_abandoned(stranger)
        assert theirs.exists()
        stranger.uid = 4321
    ram.remove_abandoned(stranger)
    assert not theirs.exists()


def test_a_lock_is_what_says_that_a_file_is_in_use(name, target):
    file = ram.make(target, 1, QEMU, name)
    with file.path.open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.close()
