"""Sending of cache entries to a depot: chunks that it lacks, then the manifest, so that what is there is whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from bundle.archive.digest import file_digest
from bundle.errors import CheckFailed
from harness.host import cache, chunks, locks
from harness.host.cache import GOLDEN, GOLDEN_FACTS
from harness.image import images
from harness.vm import golden
from harness.vm.depot import packing
from harness.vm.depot.manifest import DepotEntry, FileOfEntry
from harness.vm.depot.places import Depot

# An empty overlay names the place of its disk on this host: the receiver makes its own.
_LEFT_OUT = (".overlay",)


@dataclass
class Sender:
    """One sending of one or several entries.

    Attributes:
        depot: where to.
        again: send what the depot seems to have, too: its disk may have damaged it.
        sent: bytes that went there, packed.
        spared: bytes of content that were there already.
    """

    depot: Depot
    again: bool = False
    sent: int = 0
    spared: int = 0
    _there: dict[str, set[str]] = field(default_factory=dict)

    def image(self, key: str) -> DepotEntry:
        """Send an image.

        Raises:
            CheckFailed: its disk is not the one that was made.
        """
        folder = cache.entry(images.KIND, key)
        wanted = str(images.load_facts(folder)["digest"])
        if file_digest(folder / images.DISK, "sha256") != wanted:
            raise CheckFailed(f"the disk of image {key} is damaged: it is not sent")
        files = tuple(self._send(folder, path) for path in _files(folder))
        return self._finish(DepotEntry(images.KIND, key, files))

    def golden(self, key: str) -> list[DepotEntry]:
        """Send a golden snapshot, and before it the image that it stands on.

        Raises:
            CheckFailed: it is damaged, or not whole.
        """
        folder = cache.entry(GOLDEN, key)
        with locks.exclusive(folder.with_name(f"{key}.lock")):
            facts, recorded = golden.believable(folder), golden.recorded(folder)
        if facts is None or recorded is None:
            raise CheckFailed(f"the golden snapshot {key} is damaged, or lacks its image: it is not sent")
        image = _image_of(facts)
        first = self.image(image)
        files = tuple(
            self._send(folder, path) for path in _files(folder) if not path.name.endswith(_LEFT_OUT)
        )
        for file in files:
            if file.digest != recorded["digests"][file.name]:
                raise CheckFailed(
                    f"{file.name} of golden snapshot {key} has changed meanwhile: it is not sent"
                )
        kept = {name: value for name, value in facts.items() if name != "needs"}
        return [
            first,
            self._finish(DepotEntry(GOLDEN, key, files, kept, recorded["ingredients"], image)),
        ]

    def _finish(self, entry: DepotEntry) -> DepotEntry:
        self.depot.put_manifest(entry)
        return entry

    def _send(self, folder: Path, path: Path) -> FileOfEntry:
        found = []
        for offset, piece in chunks.contents(path):
            digest = sha256(piece).hexdigest()
            found.append(chunks.Chunk(offset, digest))
            there = self._known(digest[:2])
            if digest in there:
                self.spared += len(piece)
                continue
            packed = packing.pack(piece)
            self.depot.put_chunk(digest, packed)
            self.sent += len(packed)
            there.add(digest)
        facts = path.stat()
        name = str(path.relative_to(folder))
        return FileOfEntry(name, facts.st_size, not facts.st_mode & 0o044, tuple(found))

    def _known(self, two_digits: str) -> set[str]:
        """Return the chunks of that beginning which need not be sent; asked for once."""
        if two_digits not in self._there:
            self._there[two_digits] = set() if self.again else self.depot.objects(two_digits)
        return self._there[two_digits]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != GOLDEN_FACTS:
            yield path


def _image_of(facts: dict[str, Any]) -> str:
    """Return the key of the image that a snapshot stands on."""
    folders = {Path(path).parent for path in facts.get("needs", ())}
    keys = {folder.name for folder in folders if folder == cache.entry(images.KIND, folder.name)}
    if len(folders) != 1 or not keys:
        raise CheckFailed("the golden snapshot stands on no image of the cache: it is not sent")
    return keys.pop()
