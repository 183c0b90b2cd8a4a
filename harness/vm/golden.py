"""Golden snapshots in the cache: made once under a lock, keyed by everything that matters, believed only when whole.

Size and time of every file are compared at each use: that finds a stray writer. What changes no time, such as a disk
that forgets or a transfer that went wrong, is found by digests: once after each start of the host, and once after a
snapshot came from elsewhere (docs/adr/0083-cache-depots.md).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle import files, programs
from harness.host import chunks, locks
from harness.host.cache import GOLDEN, GOLDEN_FACTS, cache_root

# CloudStack's own since 4.20, too. An emulated sshd needs half the time for it that an Ed25519 key takes.
KEY_NAME, KEY_TYPE, KEY_BITS = "id_ecdsa", "ecdsa", "256"
# Linux makes a new one at each start of the host.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# An ingredient that is longer is recorded by its digest alone.
_LONGEST = 120


@dataclass(frozen=True)
class Golden:
    """A snapshot in the cache. ``ssh_key`` logs in to every restore of it; ``facts`` is what the maker recorded."""

    folder: Path
    facts: dict[str, Any]

    @property
    def ssh_key(self) -> Path:
        """The private key, mode 0600."""
        return self.folder / KEY_NAME


def key_of(ingredients: Mapping[str, object]) -> str:
    """Return the cache key of a set of ingredients: anything that changes the snapshot must be among them."""
    document = json.dumps(dict(ingredients), sort_keys=True, default=str)
    return hashlib.sha256(document.encode()).hexdigest()[:24]


def get(
    key: str, make: Callable[[Path], dict[str, Any]], ingredients: Mapping[str, object] | None = None
) -> Golden:
    """Return the snapshot of ``key``, making it when the cache has none or a damaged one.

    Args:
        key: from ``key_of``.
        make: called with an empty folder; leaves RAM, states and disks there and returns the facts to record. Files
            outside of the folder that the snapshot cannot do without are listed there under ``needs``.
        ingredients: what the key was made of, to be recorded.
    """
    root = cache_root() / GOLDEN
    folder = root / key
    with locks.exclusive(root / f"{key}.lock"):
        facts = believable(folder)
        if facts is not None:
            os.utime(folder / GOLDEN_FACTS)  # what is used last is collected last
            return Golden(folder, facts)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        folder.chmod(0o711)  # QEMU's user passes through
        try:
            facts = make(folder)
            record(folder, facts, summary(ingredients or {}))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    from harness.vm import retention  # only who makes a snapshot needs it

    retention.keep_within(retention.limit())
    return Golden(folder, facts)


def collect_unfinished() -> list[str]:
    """Remove the snapshots that somebody was killed over; those that are being made now stay. Returns their keys."""
    gone = []
    for folder in sorted((cache_root() / GOLDEN).glob("*/")):
        if (folder / GOLDEN_FACTS).exists():
            continue
        handle = locks.try_exclusive(folder.with_name(f"{folder.name}.lock"))
        if handle is None:
            continue
        if not (folder / GOLDEN_FACTS).exists():
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(folder.name)
        os.close(handle)
    return gone


def make_key(folder: Path) -> str:
    """Make the snapshot's SSH key pair; returns the public line."""
    path = folder / KEY_NAME
    command = [
        "ssh-keygen", "-q", "-t", KEY_TYPE, "-b", KEY_BITS, "-N", "", "-C", "sysvm-livepatch", "-f", str(path),
    ]  # fmt: skip
    programs.run(command, what="make the snapshot's SSH key")
    return public_key(folder)


def copy_key(source: Path, folder: Path) -> str:
    """Give a snapshot the SSH key pair of another one, which is in the folder ``source``; returns the public line."""
    for name in (KEY_NAME, f"{KEY_NAME}.pub"):
        shutil.copy2(source / name, folder / name)
    return public_key(folder)


def public_key(folder: Path) -> str:
    """Return the public line of the SSH key pair of a snapshot."""
    return (folder / f"{KEY_NAME}.pub").read_text().strip()


def summary(ingredients: Mapping[str, object]) -> dict[str, str]:
    """Return ingredients as a person can compare them: each in short, a long one by the first digits of its digest."""
    texts = {name: json.dumps(part, sort_keys=True, default=str) for name, part in ingredients.items()}
    return {
        name: text.strip('"')
        if len(text) <= _LONGEST
        else f"sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"
        for name, text in texts.items()
    }


def record(
    folder: Path, facts: dict[str, Any], ingredients: dict[str, str], meant: Mapping[str, str] | None = None
) -> None:
    """Write what makes a folder a whole snapshot, with the digests of its files.

    Args:
        folder: where all files are.
        facts: what its maker says of it.
        ingredients: what its key was made of, in short.
        meant: of a snapshot that came from elsewhere, the digests that its files must have: the first use reads them
            all and compares. Those that are missing here, and all of a snapshot that was made here, are as they are.
    """
    digests = {
        name: (meant or {}).get(name) or chunks.file_digest(folder / name) for name in _fingerprints(folder)
    }
    _write(folder, facts, ingredients, digests, _boot() if meant is None else "")


def recorded(folder: Path) -> dict[str, Any] | None:
    """Return what :func:`record` wrote: ``facts``, ``ingredients``, ``files`` and ``digests``; None without it."""
    try:
        document = json.loads((folder / GOLDEN_FACTS).read_text())
        complete = {"facts", "ingredients", "files", "digests", "boot"} <= set(document)
    except (OSError, ValueError, TypeError):
        return None
    return document if complete else None


def believable(folder: Path) -> dict[str, Any] | None:
    """Return the facts of a snapshot that is whole; None for one that is not, or lacks what it needs.

    The files are read and compared with their digests when that was not done since the host was started. The caller
    holds the snapshot's lock.
    """
    document = recorded(folder)
    if document is None or document["files"] != _fingerprints(folder):
        return None
    facts: dict[str, Any] = document["facts"]
    if not all(Path(path).exists() for path in facts.get("needs", ())):
        return None
    if document["boot"] != _boot():
        digests = document["digests"]
        if any(chunks.file_digest(folder / name) != digests.get(name) for name in document["files"]):
            return None
        _write(folder, facts, document["ingredients"], digests, _boot())
    return facts


def _boot() -> str:
    """Return what names this start of the host."""
    return BOOT_ID.read_text().strip()


def _fingerprints(folder: Path) -> dict[str, list[int]]:
    """Return size and modification time of each file: a private mapping never changes them, a stray writer does."""
    return {
        str(path.relative_to(folder)): [path.stat().st_size, path.stat().st_mtime_ns]
        for path in sorted(folder.rglob("*"))
        if path.name != GOLDEN_FACTS and not path.is_dir()
    }


def _write(
    folder: Path, facts: dict[str, Any], ingredients: dict[str, str], digests: dict[str, str], boot: str
) -> None:
    document = {
        "facts": facts,
        "ingredients": ingredients,
        "files": _fingerprints(folder),
        "digests": digests,
        "boot": boot,
    }
    files.write(folder / GOLDEN_FACTS, json.dumps(document, indent=1))
