"""The disk of one moment: the reader of block devices against QEMU's own server, and libvirt's part played."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import xml.etree.ElementTree as ET

import libvirt
import pytest

from bundle.errors import InfrastructureError
from harness.host import wait
from harness.machine.machine import Machine
from harness.machine.moment import NbdDisk, disk_now

CONTENT = random.Random(3).randbytes(1 << 20)


@contextlib.contextmanager
def served(folder, path, name="vda"):
    (folder / "image").write_bytes(CONTENT)
    server = subprocess.Popen(
        [
            "qemu-nbd", "--read-only", "--format=raw", "--persistent", f"--socket={path}", f"--export-name={name}",
            folder / "image",
        ]
    )  # fmt: skip
    try:
        wait.until(path.exists, "the server", 20.0)
        yield
    finally:
        server.terminate()
        server.wait(10)


class Domain:
    """Plays libvirt's domain: begins and ends the job, with QEMU's server behind it."""

    def __init__(self, folder, refuse=False):
        self.folder, self.refuse, self.ended = folder, refuse, 0
        self.stack = contextlib.ExitStack()

    def backupBegin(self, document, checkpoint, flags):
        if self.refuse:
            raise libvirt.libvirtError("no room")
        job = ET.fromstring(document)
        assert (job.get("mode"), job.find("disks/disk").get("name"), checkpoint, flags) == (
            "pull",
            "vda",
            None,
            0,
        )
        self.stack.enter_context(served(self.folder, self.folder / "disk.sock"))
        assert job.find("server").get("socket") == str(self.folder / "disk.sock")
        (self.folder / "disk.aside").touch()

    def abortJob(self):
        self.ended += 1
        self.stack.close()


def test_ranges_are_read_in_order(tmp_path):
    domain = Domain(tmp_path)
    ranges = [(n * 4096 % (1 << 20), 512 + n) for n in range(100)] + [(0, 1 << 20)]
    with disk_now(Machine("m", domain, tmp_path)) as disk:
        assert disk.read_many(ranges) == [CONTENT[at : at + length] for at, length in ranges]
        with pytest.raises(OSError, match="cannot be read"):
            disk.read_many([((1 << 20) - 100, 4096)])
    assert domain.ended == 1
    assert {path.name for path in tmp_path.iterdir()} == {"image"}


def test_the_job_ends_when_the_reader_fails(tmp_path):
    domain = Domain(tmp_path)
    with pytest.raises(ValueError, match="odd"), disk_now(Machine("m", domain, tmp_path)):
        raise ValueError("odd")
    assert domain.ended == 1


def test_a_refusal_is_one_line(tmp_path):
    with (
        pytest.raises(InfrastructureError, match="m: its disk cannot be shown: no room"),
        disk_now(Machine("m", Domain(tmp_path, refuse=True), tmp_path)),
    ):
        pass


def test_a_disk_that_is_not_shown_is_refused(tmp_path):
    with served(tmp_path, tmp_path / "sock", "other"), socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(tmp_path / "sock"))
        with pytest.raises(OSError, match="does not show the disk 'vda'"):
            NbdDisk(stream).choose("vda")


def test_another_server_is_refused():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"SSH-2.0-OpenSSH_9.2 and more")
        with pytest.raises(OSError, match="no server of block devices"):
            NbdDisk(ours).choose("vda")


def test_a_server_that_goes_is_no_answer():
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        with pytest.raises(OSError, match="has gone"):
            NbdDisk(ours).choose("vda")
