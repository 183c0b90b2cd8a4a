"""Packing of chunks with zstd, and unpacking of what others packed: with a limit, and compared with its digest."""

from __future__ import annotations

import subprocess
import tempfile
from hashlib import sha256

from bundle import programs
from bundle.errors import CheckFailed, InfrastructureError

# Bytes that a frame has beside what does not get smaller.
_FRAME = 4096


def pack(piece: bytes) -> bytes:
    """Return a chunk as a depot keeps it.

    Raises:
        InfrastructureError: zstd is not installed, or fails.
    """
    packed, said = _zstd(["-3"], piece, 2 * len(piece) + _FRAME)
    if said:
        raise InfrastructureError(f"zstd cannot pack a chunk: {said}")
    return packed


def unpack(packed: bytes, digest: str, length: int) -> bytes:
    """Return the content of a packed chunk.

    Args:
        packed: what the depot gave.
        digest: SHA-256 that the content must have.
        length: bytes that it must have; no more are unpacked.

    Raises:
        CheckFailed: it is not what the manifest says.
        InfrastructureError: zstd is not installed.
    """
    # A packed frame says how much memory its window takes: none of ours needs more than a chunk is long.
    piece, said = _zstd(["-d", "--memory=8MB"], packed, length + 1)
    if len(piece) > length:
        raise CheckFailed(f"it has more than {length} bytes")
    if said:
        raise CheckFailed(f"it cannot be unpacked ({said})")
    if len(piece) != length:
        raise CheckFailed(f"it has {len(piece)} bytes instead of {length}")
    if sha256(piece).hexdigest() != digest:
        raise CheckFailed("its content has another digest")
    return piece


def _zstd(options: list[str], data: bytes, most: int) -> tuple[bytes, str]:
    """Return at most so many bytes of output, and why it failed; nothing when all went well or more was to come."""
    with tempfile.TemporaryFile() as source:
        source.write(data)
        source.seek(0)
        with programs.starting("zstd"):
            process = subprocess.Popen(
                ["zstd", "-q", "-c", *options], stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
    with process:
        try:
            output = process.stdout.read(most) if process.stdout else b""
            if len(output) == most:
                return output, ""
            _, complaint = process.communicate()
        finally:
            process.kill()
    lines = complaint.decode(errors="replace").strip().splitlines() or ["it said nothing"]
    return output, lines[-1] if process.returncode else ""
