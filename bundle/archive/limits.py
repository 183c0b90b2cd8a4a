"""Limits of all readers: the most that each takes from a stranger's archive, image or answer before it refuses it."""

from __future__ import annotations

from dataclasses import dataclass

from bundle.errors import CheckFailed


@dataclass(frozen=True)
class Limits:
    """The most that is read: content in bytes, entries, and bytes of one extended header."""

    content: int = 64 << 30
    entries: int = 2_000_000
    header: int = 1 << 20


@dataclass(frozen=True)
class ImageLimits:
    """The most that is taken from a template image that somebody else made, in bytes.

    Attributes:
        disk: the disk, as its guest sees it, and as a file.
        file: one file inside it, such as the initramfs, packed or unpacked.
        text: one file inside it that is read as text, such as the list of packages.
        factor: how many times larger than its package a disk may be; one below ``small`` always may.
        small: see ``factor``.
        decoder: memory of the decoder of xz.
    """

    disk: int = 64 << 30
    file: int = 512 << 20
    text: int = 32 << 20
    factor: int = 100
    small: int = 256 << 20
    decoder: int = 256 << 20


@dataclass(frozen=True)
class AnswerLimits:
    """The most that a guest's answer to one command may hold, in bytes: as it comes, and unpacked."""

    output: int = 64 << 20
    errors: int = 4 << 20
    unpacked: int = 128 << 20
    json: int = 1 << 20


class Meter:
    """Counts what a reader takes, and stops it at the limits."""

    def __init__(self, limits: Limits, where: str) -> None:
        """Count against ``limits``; ``where`` names the archive in errors."""
        self._limits = limits
        self._where = where
        self._content = self._entries = 0

    def entry(self) -> None:
        """Count an entry.

        Raises:
            CheckFailed: there are too many.
        """
        self._entries += 1
        if self._entries > self._limits.entries:
            raise CheckFailed(f"{self._where}: more than {self._limits.entries} entries")

    def content(self, size: int) -> None:
        """Count bytes of content.

        Raises:
            CheckFailed: there are too many.
        """
        self._content += size
        if self._content > self._limits.content:
            raise CheckFailed(f"{self._where}: unpacks to more than {self._limits.content} bytes")
