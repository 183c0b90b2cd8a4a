"""The cache of things that cost time to make: complete or not there, found by the digest of what went into them.

An entry is a folder ``<cache>/<kind>/<key>``. It is filled under another name and appears by rename. Whoever fills
holds the entry's lock, so two builds of the same thing become one; what a killed build left is removed by the next.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from bundle.errors import InfrastructureError
from bundle.paths import cache_place
from harness.host import locks

# Folders that more than one module knows: golden snapshots, those of a person, and the overlays of running machines.
GOLDEN = "golden"
# In the folder of a snapshot that is complete: what its maker recorded.
GOLDEN_FACTS = "golden.json"
SNAPSHOTS = "snapshots"
WORK = "work"
_PARTIAL = ".partial"


def cache_root() -> Path:
    """Return the cache folder, made if needed.

    ``SYSVM_CACHE`` overrides. Root's is below ``/var/cache``, readable by all, since QEMU runs as another user.
    """
    root = cache_place()
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise InfrastructureError(
            f"cannot make the cache folder {root}: {error.strerror}", hint="set SYSVM_CACHE to another folder"
        ) from None
    return root


def key_of(*parts: object) -> str:
    """Return the key of what is made from ``parts``: 32 hex digits over their JSON text."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:32]


def digest_of_files(paths: list[Path]) -> str:
    """Return a digest over names and contents of files, for keys."""
    total = sha256()
    for path in sorted(paths):
        total.update(f"{path.name}\0{sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def entry(kind: str, key: str) -> Path:
    """Return the folder of an entry, there or not."""
    return cache_root() / kind / key


def entries(kind: str) -> list[Path]:
    """Return the folders of all complete entries of a kind, sorted by name."""
    folder = cache_root() / kind
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.endswith(_PARTIAL))


@contextmanager
def locked(kind: str, key: str) -> Iterator[Path]:
    """Hold an entry alone; yields its folder. Waits for a present holder."""
    with locks.exclusive(cache_root() / "locks" / f"{kind}-{key}"):
        yield entry(kind, key)


def obtain(kind: str, key: str, fill: Callable[[Path], None]) -> Path:
    """Return the entry's folder; when it is not there, ``fill`` makes the contents.

    Args:
        kind: folder of the cache.
        key: name of the entry; see ``key_of``.
        fill: called with an empty folder on the same file system. When it raises, nothing remains.
    """
    path = entry(kind, key)
    if path.is_dir():
        return path
    with locked(kind, key):
        if not path.is_dir():
            _fill(path, fill)
    return path


def _fill(path: Path, fill: Callable[[Path], None]) -> None:
    partial = path.with_name(path.name + _PARTIAL)
    remove(partial)
    partial.mkdir(parents=True, mode=0o755)
    try:
        fill(partial)
        # Without this a power cut could leave an entry that is complete in name only.
        os.sync()
        partial.rename(path)
    finally:
        remove(partial)


def discard(kind: str, key: str) -> None:
    """Remove an entry, waiting for whoever is making it."""
    with locked(kind, key) as path:
        remove(path)


def collect_partials(kind: str) -> list[Path]:
    """Remove what killed builds left; entries that are being made now are not touched."""
    removed = []
    for partial in sorted((cache_root() / kind).glob("*" + _PARTIAL)):
        name = partial.name.removesuffix(_PARTIAL)
        handle = locks.try_exclusive(cache_root() / "locks" / f"{kind}-{name}")
        if handle is None:
            continue
        try:
            remove(partial)
            removed.append(partial)
        finally:
            os.close(handle)
    return removed


def remove(path: Path) -> None:
    """Remove a folder with everything below it; one that is not there is no error."""
    if path.is_dir():
        shutil.rmtree(path)


def size_of(path: Path) -> int:
    """Return the bytes that a folder takes on the disk."""
    return sum(p.lstat().st_blocks for p in path.rglob("*")) * 512
