"""Write agent.zip: its bytes depend on its members and one time stamp only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from bundle.archive.digest import TrailingDigest
from bundle.archive.members import Member
from bundle.archive.packer import PackedPart, Packer
from bundle.archive.store import Store, Writer
from bundle.archive.zip_format import CentralHeader, central_header, end_record, local_header

_ANNOUNCE = 4 << 20


class _Zip:
    """The archive while it grows."""

    def __init__(self, file: BinaryIO, epoch: int, store: Store | None, follower: TrailingDigest) -> None:
        self._file = file
        self._epoch = epoch
        self._store = store
        self._follower = follower
        self._announced = self._position = 0
        self._records: list[CentralHeader] = []
        self._open: tuple[int, int] | None = None
        self._writer: Writer | None = None

    def _write(self, data: bytes) -> None:
        self._position += self._file.write(data)

    def add(self, member: Member, part: PackedPart) -> None:
        """Write a part of a member; the parts of one member follow each other."""
        if part.last and self._open is None and isinstance(part.blocks, tuple):
            packed = sum(map(len, part.blocks))
            self._records.append(CentralHeader(member, part.method, packed, self._position))
            self._write(local_header(member, part.method, packed, self._epoch))
            for block in part.blocks:
                self._write(block)
        else:
            self._add_piece(member, part)
        if self._open is None and self._position - self._announced > _ANNOUNCE:
            self.announce()

    def _add_piece(self, member: Member, part: PackedPart) -> None:
        """Write a part of a member whose packed size is not known yet; the header is mended at the end."""
        if self._open is None:
            offset = self._position
            self._write(local_header(member, part.method, 0, self._epoch))
            self._open = offset, self._position
            if self._store is not None and part.keep:
                self._writer = self._store.begin(part.keep)
        offset, start = self._open
        for block in part.blocks:
            self._write(block)
            if self._writer is not None:
                self._writer.write(block)
        if not part.last:
            return
        packed = self._position - start
        self._records.append(CentralHeader(member, part.method, packed, offset))
        self._file.seek(offset)
        self._file.write(local_header(member, part.method, packed, self._epoch))
        self._file.seek(self._position)
        self._open = None
        if self._writer is not None and self._store is not None:
            self._store.commit(self._writer)
            self._writer = None

    def announce(self) -> None:
        """Tell the follower how much is final."""
        self._file.flush()
        self._announced = self._position
        self._follower.advance(self._position)

    def finish(self) -> int:
        """Write the directory; returns the size of the archive."""
        directory = self._position
        for record in self._records:
            self._write(central_header(record, self._epoch))
        self._write(end_record(len(self._records), self._position - directory, directory))
        self.announce()
        return self._position

    def abandon(self) -> None:
        """Forget a cache entry that was not finished."""
        if self._writer is not None:
            self._writer.discard()


def write_zip(
    file: BinaryIO,
    members: Iterable[Member],
    epoch: int,
    packer: Packer,
    store: Store | None,
    follower: TrailingDigest,
) -> int:
    """Write the archive to a file opened for writing and reading; returns its size in bytes.

    Args:
        file: where to write, positioned at 0.
        members: the entries, in order.
        epoch: time stamp of every entry, in seconds since 1970.
        packer: gives the packed data.
        store: gets a copy of what was packed in pieces.
        follower: is told how many bytes are final.

    Raises:
        UsageError: a source file changed since it was measured.
    """
    archive = _Zip(file, epoch, store, follower)
    try:
        for member, part in packer.pack(members):
            archive.add(member, part)
        return archive.finish()
    finally:
        archive.abandon()
