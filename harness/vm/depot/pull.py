"""Fetching of cache entries from a depot: nothing is used before its digest was compared, and nothing is there by half.

Chunks are kept as they came until the entry is whole: who was interrupted fetches only the rest. A golden snapshot that
cannot be used here is not fetched, and the reason is told.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundle import files, programs
from bundle.archive.digest import file_digest
from bundle.errors import CheckFailed, InfrastructureError
from harness.host import cache, chunks, locks
from harness.host.cache import GOLDEN
from harness.image import images
from harness.machine.disks import make_overlay
from harness.vm import golden
from harness.vm.depot import packing
from harness.vm.depot.manifest import DepotEntry, FileOfEntry
from harness.vm.depot.places import Depot, NotThere

# The ingredients of snapshots that are this host's; those that an image decides are known only when it is given.
HostParts = Callable[[images.Image | None], Mapping[str, str]]
INCOMING = "incoming"
# How often a chunk is asked for, and seconds between.
_TRIES, _PAUSE = 3, 0.5
# Files of a snapshot that QEMU opens as its own user.
_OF_QEMU = (".ram", ".state", ".qcow2")
_WORDS = {
    "maker": "the program that makes snapshots",
    "qemu": "QEMU's version",
    "accelerator": "the accelerator",
    "processor": "the processor",
    "technique": "the way of the RAM into snapshots",
    "image": "the template image",
    "kernel": "the kernel's arguments",
    "bundle": "the bundle that it was booted with",
    "topology": "the machines and their cables",
    "network": "the network",
    "rules": "the rules that the server sends",
}


@dataclass
class Receiver:
    """One fetching of one or several entries.

    Attributes:
        depot: where from.
        owner: user and group of QEMU.
        fetched: bytes that came, packed.
    """

    depot: Depot
    owner: tuple[int, int]
    fetched: int = 0

    def image(self, key: str) -> bool:
        """Fetch an image, unless it is there; says whether it had to be fetched.

        Raises:
            NotThere: the depot has no such image.
            CheckFailed: what the depot has is damaged.
            InfrastructureError: the depot does not answer, or the disk is full; what came is kept for the next time.
        """
        if cache.entry(images.KIND, key).is_dir():
            return False
        entry = self.depot.entry(images.KIND, key)

        def fill(folder: Path) -> None:
            self._assemble(entry, folder)
            _require_whole_image(folder, key)

        cache.obtain(images.KIND, key, fill)
        _forget(entry)
        return True

    def golden(self, entry: DepotEntry) -> bool:
        """Fetch a golden snapshot whose image is there, unless it is there itself; says whether it had to be.

        Raises:
            CheckFailed: what the depot has is damaged, or its image is not the one of that key here.
            InfrastructureError: as in :meth:`image`.
        """
        image = images.load(cache.entry(images.KIND, entry.image))
        if image.digest != entry.ingredients.get("image"):
            raise CheckFailed(
                f"golden snapshot {entry.key} stands on another image than {entry.image} is here"
            )
        folder = cache.entry(GOLDEN, entry.key)
        with locks.exclusive(folder.with_name(f"{entry.key}.lock")):
            if golden.believable(folder) is not None:
                return False
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            folder.chmod(0o711)  # QEMU's user passes through
            try:
                self._assemble(entry, folder)
                self._adopt(entry, folder, image)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        _forget(entry)
        return True

    def _adopt(self, entry: DepotEntry, folder: Path, image: images.Image) -> None:
        """Put what names places of the other host in terms of this one, and record the snapshot."""
        meant = {file.name: file.digest for file in entry.files}
        for disk in sorted(folder.rglob("*.qcow2")):
            name = str(disk.relative_to(folder))
            if chunks.file_digest(disk) != meant.pop(name):
                raise InfrastructureError(f"{disk} is not what was written to it")
            require_own_disk(disk, overlay=True)
            command = [
                "qemu-img",
                "rebase",
                "-u",
                "-f",
                "qcow2",
                "-F",
                "qcow2",
                "-b",
                str(image.path),
                str(disk),
            ]
            programs.run(command, what=f"put {disk.name} on its image")
            make_overlay(disk, disk.with_suffix(".overlay"))
        for path in folder.rglob("*"):
            if path.name.endswith(_OF_QEMU):
                os.chown(path, *self.owner)
        facts = {**entry.facts, "needs": [str(path) for path in image.files()]}
        golden.record(folder, facts, entry.ingredients, meant)

    def _assemble(self, entry: DepotEntry, folder: Path) -> None:
        """Write all files of an entry; what was fetched by an earlier try is not fetched again."""
        kept = _incoming(entry)
        kept.mkdir(parents=True, exist_ok=True)
        kept.chmod(0o700)
        require_space(folder, entry)
        for file in entry.files:
            path = folder / file.name
            if path.parent != folder and not path.parent.exists():
                path.parent.mkdir()
                path.parent.chmod(folder.stat().st_mode & 0o755)
            try:
                self._write(file, path, kept)
            except OSError as error:
                raise InfrastructureError(f"cannot write {path}: {error.strerror or error}") from None

    def _write(self, file: FileOfEntry, path: Path, kept: Path) -> None:
        mode = 0o600 if file.private else 0o644
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            os.fchmod(handle, mode)
            os.ftruncate(handle, file.size)
            for chunk in file.chunks:
                chunks.put(handle, chunk.offset, self._content(chunk.digest, file.length(chunk), kept))
        finally:
            os.close(handle)

    def _content(self, digest: str, length: int, kept: Path) -> bytes:
        """Return a chunk's content, from what was kept or from the depot."""
        path = kept / f"{digest}.zst"
        if path.exists():
            try:
                return packing.unpack(path.read_bytes(), digest, length)
            except CheckFailed:  # this host's disk has damaged it: it is fetched again
                path.unlink()
        packed, content = self._fetch(digest, length)
        files.write(path, packed)
        return content

    def _fetch(self, digest: str, length: int) -> tuple[bytes, bytes]:
        """Return a chunk as it came and its content; what did not arrive well is asked for again."""
        for tries in range(1, _TRIES + 1):
            try:
                packed = self.depot.chunk(digest)
                content = packing.unpack(packed, digest, length)
            except NotThere:
                raise CheckFailed(
                    f"{self.depot.address} lacks the chunk {digest}", hint="push the entry again with --again"
                ) from None
            except CheckFailed as error:
                if tries == _TRIES:
                    raise CheckFailed(
                        f"{self.depot.address}: chunk {digest} is damaged: {error}",
                        hint="push the entry again with --again",
                    ) from None
            except InfrastructureError:
                if tries == _TRIES:
                    raise
            else:
                self.fetched += len(packed)
                return packed, content
            time.sleep(_PAUSE)
        raise AssertionError("the last try returns or raises")


def differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """Return in what a snapshot differs from what this host would make or use, one sentence each; nothing if it fits.

    Args:
        theirs: its ingredients, in short.
        ours: those that are known here; others are not compared.
    """
    return [
        f"{_WORDS.get(name, name)} is {theirs.get(name, 'not told')!r} there and {value!r} here"
        for name, value in ours.items()
        if theirs.get(name) != value
    ]


def nearest(wanted: Mapping[str, str], there: list[DepotEntry]) -> tuple[DepotEntry, list[str]] | None:
    """Return the snapshot that differs least from the wanted one, and in what; None where there is none at all."""
    told = [(entry, differences(entry.ingredients, wanted)) for entry in there if entry.kind == GOLDEN]
    return min(told, key=lambda row: (len(row[1]), row[0].key), default=None)


def collect_incoming(days: float) -> list[Path]:
    """Remove what was fetched for entries that nobody went on with for so many days; returns the folders."""
    gone = []
    for folder in sorted((cache.cache_root() / INCOMING).glob("*/")):
        if folder.stat().st_mtime > time.time() - days * 86400:
            continue
        handle = locks.try_exclusive(_lock(*folder.name.partition("-")[::2]))
        if handle is not None:  # nobody is fetching it now
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(folder)
            os.close(handle)
    return gone


def _lock(kind: str, key: str) -> Path:
    """Return the lock that whoever makes or fetches an entry holds."""
    root = cache.cache_root()
    return root / GOLDEN / f"{key}.lock" if kind == GOLDEN else root / "locks" / f"{kind}-{key}"


def require_space(folder: Path, entry: DepotEntry) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        InfrastructureError: there is less room.
    """
    free = shutil.disk_usage(folder).free
    if free < 2 * entry.size:  # as it came, and unpacked
        raise InfrastructureError(
            f"{entry.kind} {entry.key} needs {2 * entry.size >> 20} MiB, and {folder.parent} has {free >> 20} MiB free",
            hint="free some, run 'sysvm cache gc', or set SYSVM_CACHE to another disk",
        )


def require_own_disk(disk: Path, *, overlay: bool) -> None:
    """Refuse a disk that would let QEMU read other files of this host.

    Args:
        disk: it came from elsewhere.
        overlay: it may name a file below it, which is exchanged before anybody opens it.

    Raises:
        CheckFailed: it is no qcow2 disk, or refers to another file.
    """
    with disk.open("rb") as file:
        if file.read(4) != b"QFI\xfb":
            raise CheckFailed(f"{disk.name} is no qcow2 disk")
    told = programs.run(
        ["qemu-img", "info", "--output=json", "-f", "qcow2", str(disk)],
        what=f"look at {disk.name}",
        check=False,
    )
    if told.status != 0:
        raise CheckFailed(f"{disk.name} is no disk that can be read: {told.reason}")
    facts = json.loads(told.stdout)
    outside = facts.get("format-specific", {}).get("data", {}).get("data-file")
    if outside or ("backing-filename" in facts and not overlay):
        raise CheckFailed(f"{disk.name} refers to another file ({outside or facts['backing-filename']})")


def _require_whole_image(folder: Path, key: str) -> None:
    try:
        wanted = images.load(folder).digest
        disk = folder / images.DISK
        same = file_digest(disk, "sha256") == wanted
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckFailed(f"image {key} of the depot is none ({type(error).__name__}: {error})") from None
    if not same:
        raise CheckFailed(f"the disk of image {key} in the depot is not the one that its facts name")
    require_own_disk(disk, overlay=False)


def _incoming(entry: DepotEntry) -> Path:
    return cache.cache_root() / INCOMING / f"{entry.kind}-{entry.key}"


def _forget(entry: DepotEntry) -> None:
    shutil.rmtree(_incoming(entry), ignore_errors=True)


def misfit(receiver: Receiver, entry: DepotEntry, here: HostParts) -> list[str]:
    """Return why a snapshot cannot be used on this host; its image is fetched when all else fits.

    Args:
        receiver: of the depot.
        entry: the snapshot.
        here: what is this host's.
    """
    if problems := differences(entry.ingredients, here(None)):
        return problems
    receiver.image(entry.image)
    return differences(entry.ingredients, here(images.load(cache.entry(images.KIND, entry.image))))
