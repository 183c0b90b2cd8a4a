"""The disk of a running machine as it is at one moment: QEMU shows it over a UNIX socket, while the guest goes on.

libvirt calls that a backup in pull mode: before the guest overwrites a block, QEMU puts the old one aside, and a
reader that speaks NBD, the protocol of block devices on networks, sees all blocks as they were. The disk is left alone.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import libvirt

from harness.host.hypervisor import asking
from harness.machine.machine import Machine

DISK = "vda"
DEADLINE = 60.0
_WINDOW = 16  # requests that are on their way at once
# The protocol's words: how the server greets, what is asked for, and how answers begin.
_GREETING, _OPTION = b"NBDMAGICIHAVEOPT", b"IHAVEOPT"
_OPTION_ANSWER, _REQUEST, _ANSWER = 0x3E889045565A9, 0x25609513, 0x67446698
_GO, _ACKNOWLEDGED, _REFUSED = 7, 1, 1 << 31
_FIXED, _NO_ZEROES = 1, 2


@dataclass
class NbdDisk:
    """A disk that a server on a socket shows; reads only."""

    stream: socket.socket

    def choose(self, name: str) -> None:
        """Ask for one of the server's disks by its name.

        Raises:
            OSError: it is no such server, or has no such disk.
        """
        greeting = self._take(18)
        if greeting[:16] != _GREETING:
            raise OSError("what answers is no server of block devices")
        known = struct.unpack(">H", greeting[16:])[0] & (_FIXED | _NO_ZEROES)
        wanted = name.encode()
        option = struct.pack(">I", len(wanted)) + wanted + struct.pack(">H", 0)
        self.stream.sendall(
            struct.pack(">I", known) + _OPTION + struct.pack(">II", _GO, len(option)) + option
        )
        while True:
            magic, _, kind, length = struct.unpack(">QIII", self._take(20))
            told = self._take(length)
            if magic != _OPTION_ANSWER or kind & _REFUSED:
                raise OSError(f"the server does not show the disk {name!r}: {told.decode(errors='replace')}")
            if kind == _ACKNOWLEDGED:
                return

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of ranges (offset, length), in order.

        Raises:
            OSError: one cannot be read.
        """
        found = []
        for first in range(0, len(ranges), _WINDOW):
            part = ranges[first : first + _WINDOW]
            self.stream.sendall(
                b"".join(
                    struct.pack(">IHHQQI", _REQUEST, 0, 0, number, offset, length)
                    for number, (offset, length) in enumerate(part)
                )
            )
            answers = {}
            for _ in part:
                magic, error, number = struct.unpack(">IIQ", self._take(16))
                if magic != _ANSWER or error or number not in range(len(part)):
                    raise OSError(error, "the disk cannot be read")
                answers[number] = self._take(part[number][1])
            found += [answers[number] for number in range(len(part))]
        return found

    def _take(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            if not (more := self.stream.recv(min(length - len(data), 1 << 20))):
                raise OSError("the server of the disk has gone")
            data += more
        return bytes(data)


@contextlib.contextmanager
def disk_now(machine: Machine) -> Iterator[NbdDisk]:
    """Show the disk of a machine as it is now, for the length of a ``with`` block.

    Raises:
        InfrastructureError: libvirt or QEMU does not show it.
        OSError: likewise, or it cannot be read.
    """
    path, aside = machine.folder / "disk.sock", machine.folder / "disk.aside"
    with asking(f"{machine.name}: its disk cannot be shown"):
        machine.handle.backupBegin(_document(path, aside), None, 0)
    try:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(DEADLINE)
            stream.connect(str(path))
            disk = NbdDisk(stream)
            disk.choose(DISK)
            yield disk
    finally:
        # A machine that is gone shows nothing any more.
        with contextlib.suppress(libvirt.libvirtError):
            machine.handle.abortJob()
        for left in (path, aside):
            left.unlink(missing_ok=True)


def _document(path: Path, aside: Path) -> str:
    """Return the description of the job for libvirt."""
    return (
        f'<domainbackup mode="pull"><server transport="unix" socket={quoteattr(str(path))}/>'
        f'<disks><disk name="{DISK}" backup="yes" type="file"><driver type="qcow2"/>'
        f"<scratch file={quoteattr(str(aside))}/></disk></disks></domainbackup>"
    )
