"""Retention of cached things: by age when a person asks, by size on its own; never what a machine stands on.

Golden snapshots pile up fastest: each change of payload, network or template makes new ones. What was used last stays
longest. A snapshot or image that an overlay of a running machine refers to is left, whatever was asked for.
"""

from __future__ import annotations

import os
import shutil
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import UsageError
from harness.host import cache, locks
from harness.host.cache import GOLDEN, GOLDEN_FACTS, SNAPSHOTS, WORK
from harness.image import base, images

# Inside the folder of an entry, what is touched at each use. A base is used with its images: of it, it is the folder.
_TOUCHED = {GOLDEN: GOLDEN_FACTS, images.KIND: images.METADATA, base.KIND: ""}
LIMIT_VARIABLE = "SYSVM_CACHE_LIMIT"
DEFAULT_LIMIT = "30G"
# What was used so lately may be about to be used again: its user has looked it up and not opened it yet.
GRACE_SECONDS = 3600.0
_DAY = 86400.0
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_QCOW2_MAGIC = b"QFI\xfb"


@dataclass(frozen=True)
class CacheEntry:
    """One thing in the cache.

    Attributes:
        kind: ``golden``, ``images`` or ``bases``.
        size: bytes on the disk.
        used: when it was used last, seconds since the epoch.
        pinned: a machine stands on it.
        base: key of the base that an image is made of.
    """

    kind: str
    key: str
    path: Path
    size: int
    used: float
    pinned: bool
    base: str = ""


def parse_size(text: str) -> int:
    """Return the bytes of a text such as ``20G`` (K, M, G and T are powers of 1,024).

    Raises:
        UsageError: it is no size.
    """
    unit = text[-1:].upper() if text[-1:].isalpha() else ""
    number = text[: len(text) - len(unit)]
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"{text!r} is no size", hint="write it like 20G or 500M") from None


def limit() -> int:
    """Return the bytes that the cache may take: ``SYSVM_CACHE_LIMIT``, or 30 GiB."""
    return parse_size(os.environ.get(LIMIT_VARIABLE) or DEFAULT_LIMIT)


def entries() -> list[CacheEntry]:
    """Return what is in the cache, the one used last first."""
    snapshots = _golden_folders()
    overlays = [path for kind in (WORK, SNAPSHOTS) for path in (cache.cache_root() / kind).glob("*/*.qcow2")]
    held = set(_backing_files(overlays))
    for path in snapshots:
        if _is_held(path, held):
            held |= set(_backing_files(path.rglob("*.qcow2")))
    found = [_entry(GOLDEN, path, held) for path in snapshots]
    found += [_entry(images.KIND, path, held) for path in cache.entries(images.KIND)]
    found += [_entry(base.KIND, path, set()) for path in cache.entries(base.KIND)]
    return sorted(filter(None, found), key=lambda entry: -entry.used)


def choose(
    found: list[CacheEntry], *, days: float | None = None, size: int | None = None
) -> list[CacheEntry]:
    """Return what may go: the one used longest ago first, then the bases that no image left is made of.

    Args:
        found: from ``entries``.
        days: what was not used for so long goes.
        size: the rest is made to fit into so many bytes.
    """
    total = sum(entry.size for entry in found)
    gone: list[CacheEntry] = []

    def consider(entry: CacheEntry) -> None:
        nonlocal total
        stale = days is not None and entry.used <= time.time() - days * _DAY
        if stale or (size is not None and total > size):
            gone.append(entry)
            total -= entry.size

    oldest = sorted(found, key=lambda entry: entry.used)
    for entry in oldest:
        if entry.kind != base.KIND and not entry.pinned:
            consider(entry)
    needed = {entry.base for entry in found if entry not in gone}
    for entry in oldest:
        if entry.kind == base.KIND and entry.key not in needed:
            consider(entry)
    return gone


def remove(chosen: Iterable[CacheEntry]) -> list[CacheEntry]:
    """Remove entries; returns those that went. What is being made or looked up, or was used since, stays."""
    return [entry for entry in chosen if _remove(entry)]


def keep_within(size: int) -> list[CacheEntry]:
    """Make the cache fit into ``size`` bytes, sparing what was used within the last hour; returns what went."""
    spared = time.time() - GRACE_SECONDS
    return remove(entry for entry in choose(entries(), size=size) if entry.used < spared)


def collect_images(days: float, *, dry_run: bool = False) -> list[Path]:
    """Remove images not used for ``days`` days, bases that no image left needs, and what killed builds left.

    Returns:
        The folders removed (or that would be, but for what killed builds left).
    """
    chosen = choose([entry for entry in entries() if entry.kind != GOLDEN], days=days)
    if dry_run:
        return [entry.path for entry in chosen]
    return [*(entry.path for entry in remove(chosen)), *images.collect_leftovers()]


def _remove(entry: CacheEntry) -> bool:
    lock = entry.path.with_name(f"{entry.key}.lock")
    if entry.kind != GOLDEN:
        lock = cache.cache_root() / "locks" / f"{entry.kind}-{entry.key}"
    handle = locks.try_exclusive(lock)
    if handle is None:
        return False
    try:
        if _was_used_since(entry):
            return False
        # The facts go first: without them what is left counts as nothing, wherever this is interrupted.
        (entry.path / GOLDEN_FACTS).unlink(missing_ok=True)
        shutil.rmtree(entry.path, ignore_errors=True)
        if entry.kind == GOLDEN:
            lock.unlink(missing_ok=True)
    finally:
        os.close(handle)
    return True


def _was_used_since(entry: CacheEntry) -> bool:
    """Say whether somebody has used an entry after it was looked at."""
    try:
        return _last_use(entry.kind, entry.path) > entry.used
    except FileNotFoundError:
        return False  # another process has removed it, or begun to


def _last_use(kind: str, path: Path) -> float:
    return (path / _TOUCHED[kind]).stat().st_mtime


def _entry(kind: str, path: Path, held: set[Path]) -> CacheEntry | None:
    """Return an entry, or None when another process removes it at this moment."""
    try:
        made_of = str(images.load_facts(path)["base"]) if kind == images.KIND else ""
        used = _last_use(kind, path)
        return CacheEntry(kind, path.name, path, cache.size_of(path), used, _is_held(path, held), made_of)
    except FileNotFoundError:
        return None


def _is_held(folder: Path, held: set[Path]) -> bool:
    return any(folder in file.parents for file in held)


def _golden_folders() -> list[Path]:
    """Return the snapshots that are whole; one that is in the making has no facts yet."""
    return [path.parent for path in (cache.cache_root() / GOLDEN).glob(f"*/{GOLDEN_FACTS}")]


def _backing_files(overlays: Iterable[Path]) -> list[Path]:
    """Return the files that qcow2 overlays stand on, from their headers."""
    found = []
    for overlay in overlays:
        try:
            with overlay.open("rb") as file:
                magic, _version, offset, length = struct.unpack(">4sIQI", file.read(20))
                file.seek(offset)
                name = file.read(length)
        except (OSError, struct.error):
            continue  # it ended meanwhile, or is being made: its machine is not there yet
        if magic == _QCOW2_MAGIC and offset:
            found.append(Path(os.fsdecode(name)))
    return found
