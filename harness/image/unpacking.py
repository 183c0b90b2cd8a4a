"""Unpacking of what strangers packed: in blocks, and no further than the limits allow."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bundle import programs
from bundle.archive.limits import ImageLimits
from bundle.errors import UsageError

_BLOCK = 1 << 20
SUFFIXES = (".bz2", ".gz", ".xz", ".zst")


def unpack(file: Path, target: Path, limits: ImageLimits) -> None:
    """Unpack a disk that is packed with bzip2, gzip, xz or zstd, as the suffix says.

    Raises:
        UsageError: it is damaged, or larger than the limits allow; what was written by then remains.
        InfrastructureError: zstd is not installed.
    """
    most = min(limits.disk, max(limits.small, limits.factor * file.stat().st_size))
    with file.open("rb") as source, target.open("wb") as unpacked, _one_line(str(file)):
        for block in _bounded(_blocks(source, file.suffix, limits), most, str(file)):
            unpacked.write(block)


def unpacked(data: bytes, suffix: str, name: str, limits: ImageLimits | None = None) -> bytes:
    """Return a file's content unpacked as its suffix says, or as it is.

    Raises:
        UsageError: it is damaged, or larger than the limits allow.
    """
    limits = limits or ImageLimits()
    if suffix not in SUFFIXES:
        return data
    with _one_line(name):
        return b"".join(_bounded(_blocks(io.BytesIO(data), suffix, limits), limits.file, name))


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise UsageError(f"{name} cannot be unpacked: {error}") from None


def _bounded(blocks: Iterable[bytes], most: int, name: str) -> Iterator[bytes]:
    size = 0
    for block in blocks:
        size += len(block)
        if size > most:
            raise UsageError(f"{name} unpacks to more than {most} bytes", hint="no template does")
        yield block


def _blocks(source: BinaryIO, suffix: str, limits: ImageLimits) -> Iterator[bytes]:
    match suffix:
        case ".xz":
            yield from _xz(source, limits.decoder)
        case ".zst":
            yield from _zstd(source)
        case ".bz2":
            with bz2.open(source) as stream:
                yield from iter(lambda: stream.read(_BLOCK), b"")
        case _:
            with gzip.open(source) as stream:
                yield from iter(lambda: stream.read(_BLOCK), b"")


def _xz(source: BinaryIO, memory: int) -> Iterator[bytes]:
    """Yield the content of one stream or several; the decoder of the standard library's files has no limit."""
    packed = source.read(_BLOCK)
    while True:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=memory)
        while not decoder.eof:
            if decoder.needs_input and not packed:
                packed = source.read(_BLOCK)
                if not packed:
                    raise EOFError("it is cut off")
            block = decoder.decompress(packed, _BLOCK)
            packed = b""
            if block:
                yield block
        packed = decoder.unused_data
        while not packed.lstrip(b"\0"):
            packed = source.read(_BLOCK)
            if not packed:
                return
        packed = packed.lstrip(b"\0")


def _zstd(source: BinaryIO) -> Iterator[bytes]:
    """Yield the content as the program unpacks it; it refuses windows of more than 128 MiB."""
    if not isinstance(source, io.BufferedReader):
        raise UsageError("packed with zstd, which is read from files only")
    with programs.starting("zstd"):
        process = subprocess.Popen(
            ["zstd", "-q", "-d", "-c"], stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    try:
        while block := (process.stdout.read(_BLOCK) if process.stdout else b""):
            yield block
        _, said = process.communicate()
        if process.returncode != 0:
            last = said.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise ValueError(f"zstd: {last[0]}")
    finally:
        process.kill()
        process.communicate()
