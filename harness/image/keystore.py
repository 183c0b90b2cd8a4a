"""Java's store of trusted certificates, made the same every time: it records when each certificate was added.

Format "JKS" version 2, as OpenJDK's ``sun.security.provider.JavaKeyStore`` describes it.
"""

from __future__ import annotations

import hashlib
import struct

from bundle.errors import InfrastructureError

MAGIC = 0xFEEDFEED
# The password of every Java installation; it guards against damage, not against people.
PASSWORD = "changeit"  # noqa: S105 - public by design
_TRUSTED = 2
_WHITENER = b"Mighty Aphrodite"
_DIGEST = 20


def normalized(data: bytes, epoch: int) -> bytes:
    """Return the store with its entries sorted by name and all added at ``epoch``.

    Raises:
        InfrastructureError: another format, another password, or private keys inside.
    """
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if len(data) < 12 + _DIGEST or struct.unpack_from(">II", data) != (MAGIC, 2) or _digest(body) != digest:
        raise InfrastructureError("image build: Java's certificates are in no JKS store that opens")
    (count,) = struct.unpack_from(">I", body, 8)
    entries = []
    position = 12
    for _ in range(count):
        (tag,) = struct.unpack_from(">I", body, position)
        if tag != _TRUSTED:
            raise InfrastructureError("image build: the store of Java's certificates holds private keys")
        alias, position = _text(body, position + 4)
        start = position + 8
        _, position = _text(body, start)
        (length,) = struct.unpack_from(">I", body, position)
        position += 4 + length
        entries.append((alias, body[start:position]))
    rows = [
        struct.pack(">I", _TRUSTED) + alias + struct.pack(">Q", epoch * 1000) + rest
        for alias, rest in sorted(entries)
    ]
    body = body[:12] + b"".join(rows)
    return body + _digest(body)


def _text(data: bytes, position: int) -> tuple[bytes, int]:
    """Return a string with its length in front, and where the next thing begins."""
    (length,) = struct.unpack_from(">H", data, position)
    end = position + 2 + length
    return data[position:end], end


def _digest(body: bytes) -> bytes:
    return hashlib.sha1(PASSWORD.encode("utf-16-be") + _WHITENER + body, usedforsecurity=False).digest()
