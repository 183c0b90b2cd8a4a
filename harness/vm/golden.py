"""Golden snapshots in the cache: made once under a lock, keyed by everything that matters, believed only when whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle import files, programs
from harness.host import locks
from harness.host.cache import GOLDEN, GOLDEN_FACTS, cache_root

# CloudStack's own since 4.20, too. An emulated sshd needs half the time for it that an Ed25519 key takes.
KEY_NAME, KEY_TYPE, KEY_BITS = "id_ecdsa", "ecdsa", "256"


@dataclass(frozen=True)
class Golden:
    """A snapshot in the cache. ``ssh_key`` logs in to every restore of it; ``facts`` is what the maker recorded."""

    folder: Path
    facts: dict[str, Any]

    @property
    def ssh_key(self) -> Path:
        """The private key, mode 0600."""
        return self.folder / KEY_NAME


def key_of(ingredients: dict[str, object]) -> str:
    """Return the cache key of a set of ingredients: anything that changes the snapshot must be among them."""
    document = json.dumps(ingredients, sort_keys=True, default=str)
    return hashlib.sha256(document.encode()).hexdigest()[:24]


def get(key: str, make: Callable[[Path], dict[str, Any]]) -> Golden:
    """Return the snapshot of ``key``, making it when the cache has none or a damaged one.

    Args:
        key: from ``key_of``.
        make: called with an empty folder; leaves RAM, states and disks there and returns the facts to record. Files
            outside of the folder that the snapshot cannot do without are listed there under ``needs``.
    """
    root = cache_root() / GOLDEN
    folder = root / key
    with locks.exclusive(root / f"{key}.lock"):
        facts = _believable(folder)
        if facts is not None:
            os.utime(folder / GOLDEN_FACTS)  # what is used last is collected last
            return Golden(folder, facts)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        folder.chmod(0o711)  # QEMU's user passes through
        try:
            recorded = make(folder)
            _record(folder, recorded)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    from harness.vm import retention  # only who makes a snapshot needs it

    retention.keep_within(retention.limit())
    return Golden(folder, recorded)


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
    return path.with_suffix(".pub").read_text().strip()


def _fingerprints(folder: Path) -> dict[str, list[int]]:
    """Return size and modification time of each file: a private mapping never changes them, a stray writer does."""
    return {
        str(path.relative_to(folder)): [path.stat().st_size, path.stat().st_mtime_ns]
        for path in sorted(folder.rglob("*"))
        if path.name != GOLDEN_FACTS and not path.is_dir()
    }


def _record(folder: Path, facts: dict[str, Any]) -> None:
    files.write(folder / GOLDEN_FACTS, json.dumps({"facts": facts, "files": _fingerprints(folder)}, indent=1))


def _believable(folder: Path) -> dict[str, Any] | None:
    try:
        document = json.loads((folder / GOLDEN_FACTS).read_text())
        whole = document["files"] == _fingerprints(folder)
        facts: dict[str, Any] = document["facts"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    needed = all(Path(path).exists() for path in facts.get("needs", ()))
    return facts if whole and needed else None
