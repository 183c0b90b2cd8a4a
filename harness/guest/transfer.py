"""Sending files into a guest: by the legacy SCP protocol, which is what CloudStack's agents speak, or by SFTP.

On demand a transfer suffers what transfers suffer in the field: it is slow, it is cut, or it ends early unnoticed.
"""

from __future__ import annotations

import posixpath
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, TypeAlias

import paramiko

from harness.guest.connection import Connection, ConnectionLost, GuestError

TransferProtocol: TypeAlias = Literal["scp", "sftp"]
_CHUNK = 1 << 16
# What a guest may say of why it takes no file, in bytes.
_REASON = 1000
# A slow line carries so many pieces a second.
_PIECES = 20


@dataclass(frozen=True)
class LineConditions:
    """The conditions under which one file travels.

    Attributes:
        rate: bytes a second that get through; None for as many as can be.
        cut_after: bytes of the file after which the guest's connection is gone; None for never.
        ends_after: bytes of the file after which both sides believe that this was all of it; None for all.
    """

    rate: float | None = None
    cut_after: int | None = None
    ends_after: int | None = None


CLEAR = LineConditions()


class _Failed(Exception):
    """A transfer did not work out; ``send`` turns it into a GuestError."""


@dataclass(frozen=True)
class _Transfer:
    """One file on its way: its content, as much of it as the line lets pass, and how it does so."""

    guest: Connection
    data: bytes
    path: str
    mode: int
    line: LineConditions
    end: float

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(0.001, self.end - time.monotonic())

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """Yield the content from byte ``start`` on, at the line's pace and up to its end."""
        rate, cut = self.line.rate, self.line.cut_after
        size = _CHUNK if rate is None else min(_CHUNK, max(1, int(rate / _PIECES)))
        begun = time.monotonic()
        for offset in range(start, len(self.data), size):
            piece = self.data[offset : offset + size]
            if rate is not None:
                time.sleep(min(self.left, max(0.0, begun + (offset - start) / rate - time.monotonic())))
            if time.monotonic() >= self.end:
                raise _Failed("not done in time")
            if cut is not None and offset + len(piece) > cut:
                yield piece[: max(0, cut - offset)]
                self.guest.close()
                raise EOFError(f"cut after {max(start, cut)} bytes")
            yield piece


def send(
    guest: Connection, data: bytes, path: str, mode: int, deadline: float, *,
    protocol: TransferProtocol = "scp", line: LineConditions = CLEAR, resume: bool = False,
) -> None:  # fmt: skip
    """Send one file.

    Args:
        guest: where to.
        data: the whole content.
        path: absolute path in the guest; its folder exists.
        mode: permission bits.
        deadline: seconds for all of it.
        protocol: how.
        line: what happens to it on its way.
        resume: by SFTP, go on behind what an earlier transfer left there, if that is how the content begins. SCP
            cannot: it begins again.

    Raises:
        ConnectionLost: the connection ended first; how much of the file is there is unknown.
        GuestError: the guest refused it, or the deadline passed.
    """
    whole = data if line.ends_after is None else data[: line.ends_after]
    transfer = _Transfer(guest, whole, path, mode, line, time.monotonic() + deadline)
    try:
        if protocol == "sftp":
            _by_sftp(transfer, resume=resume)
        else:
            _by_scp(transfer)
    except (_Failed, OSError, EOFError, paramiko.SSHException, paramiko.SFTPError) as error:
        kind = GuestError if guest.connected else ConnectionLost
        raise kind(f"{guest.name}: upload of {path} failed: {error or type(error).__name__}") from None


def _by_scp(transfer: _Transfer) -> None:
    folder, name = posixpath.split(transfer.path)
    channel = transfer.guest.channel(f"scp -t {shlex.quote(folder)}", transfer.left)
    try:
        channel.settimeout(transfer.left)
        _acknowledged(channel)
        channel.sendall(f"C{transfer.mode:04o} {len(transfer.data)} {name}\n".encode())
        _acknowledged(channel)
        for piece in transfer.pieces():
            channel.settimeout(transfer.left)
            channel.sendall(piece)
        channel.sendall(b"\0")
        _acknowledged(channel)
    finally:
        channel.close()


def _acknowledged(channel: paramiko.Channel) -> None:
    answer = channel.recv(1)
    if answer == b"\0":
        return
    reason = bytearray()
    while answer and not reason.endswith(b"\n") and len(reason) < _REASON:
        more = channel.recv(1)
        if not more:
            break
        reason += more
    raise _Failed(reason.decode(errors="replace").strip() or "the connection was closed")


def _by_sftp(transfer: _Transfer, *, resume: bool) -> None:
    channel = transfer.guest.subsystem("sftp", transfer.left)
    try:
        channel.settimeout(transfer.left)
        with paramiko.SFTPClient(channel) as client:
            start = _there(transfer, client) if resume else 0
            with client.open(transfer.path, "r+b" if start else "wb") as file:
                file.chmod(transfer.mode)
                file.set_pipelined(True)
                file.seek(start)
                for piece in transfer.pieces(start):
                    channel.settimeout(transfer.left)
                    file.write(piece)
    finally:
        channel.close()


def _there(transfer: _Transfer, client: paramiko.SFTPClient) -> int:
    """Return how many bytes of the content are in the guest already; 0 when something else is there."""
    try:
        size = client.stat(transfer.path).st_size or 0
    except FileNotFoundError:
        return 0
    if not 0 < size <= len(transfer.data):
        return 0
    told = transfer.guest.run(f"sha256sum <{shlex.quote(transfer.path)}", deadline=transfer.left, check=False)
    return size if told.stdout.split()[:1] == [sha256(transfer.data[:size]).hexdigest()] else 0
