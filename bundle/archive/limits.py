"""Limits of a reader: the most that it takes from an archive before it calls the archive hostile."""

from __future__ import annotations

from dataclasses import dataclass

from bundle.errors import CheckFailed


@dataclass(frozen=True)
class Limits:
    """The most that is read: content in bytes, entries, and bytes of one extended header."""

    content: int = 64 << 30
    entries: int = 2_000_000
    header: int = 1 << 20


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
