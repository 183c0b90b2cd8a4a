"""Extended attributes as an ext4 file system keeps them, in an inode or in a block of their own."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAGIC_OF_ATTRIBUTES = 0xEA020000
_PREFIXES = {
    1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security.",
    7: "system.",
}  # fmt: skip


class UnreadableFileSystem(Exception):
    """The blocks are of no file system that can be read here, or make no sense."""


def attributes_in(text: bytes, before: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and values from a list of entries; values lie ``before`` bytes ahead of where they are said to."""
    at = 0
    while at + 16 <= len(text) and text[at : at + 4] != b"\0\0\0\0":
        long, prefix, place, elsewhere, size = struct.unpack_from("<BBHII", text, at)
        if elsewhere or place - before + size > len(text) or (prefix not in _PREFIXES and prefix):
            raise UnreadableFileSystem("an attribute makes no sense")
        name = text[at + 16 : at + 16 + long].decode("utf-8", "surrogateescape")
        value = text[place - before : place - before + size]
        yield _PREFIXES.get(prefix, "") + name, _rights(value) if prefix in (2, 3) else value
        at += 16 + -(-long // 4) * 4


def _rights(value: bytes) -> bytes:
    """Return a list of access rights as programs get it, from how it is kept: there each entry has a number."""
    found = [struct.pack("<I", 2)]
    at = 4
    while at + 4 <= len(value):
        tag, rights = struct.unpack_from("<HH", value, at)
        named = tag in (2, 8)
        number = struct.unpack_from("<I", value, at + 4)[0] if named else 0xFFFFFFFF
        found.append(struct.pack("<HHI", tag, rights, number))
        at += 8 if named else 4
    return b"".join(found)
