"""The manifest of a cache entry in a depot: which files it has, of which chunks, and what it depends on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

from bundle.errors import CheckFailed
from harness.host import chunks
from harness.host.cache import GOLDEN, GOLDEN_FACTS
from harness.host.chunks import Chunk
from harness.image import images

KINDS = (images.KIND, GOLDEN)
FORMAT = 1
# The most that is read of a manifest, and what an entry may be made of: a multiple of the largest that there are.
LONGEST = 16 << 20
_MOST_FILES = 1000
_MOST_BYTES = 64 << 30
_KEY = re.compile(r"[0-9a-f]{8,64}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileOfEntry:
    """A file of an entry: its name below the entry's folder, size in bytes, whether only its owner may read it."""

    name: str
    size: int
    private: bool
    chunks: tuple[Chunk, ...]

    @property
    def digest(self) -> str:
        """The digest of its content; see :func:`harness.host.chunks.digest`."""
        return chunks.digest(self.size, self.chunks)

    def length(self, chunk: Chunk) -> int:
        """Return how many bytes a chunk of it has."""
        return min(chunks.SIZE, self.size - chunk.offset)


@dataclass(frozen=True)
class DepotEntry:
    """A cache entry as a depot keeps it.

    Attributes:
        kind: folder of the cache, ``images`` or ``golden``.
        key: its name there.
        files: what it is made of.
        facts: of a golden snapshot, what its maker recorded, without paths of the host that made it.
        ingredients: of a golden snapshot, what its key was made of, in short.
        image: of a golden snapshot, the key of the image that it stands on.
    """

    kind: str
    key: str
    files: tuple[FileOfEntry, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    ingredients: dict[str, str] = field(default_factory=dict)
    image: str = ""

    @property
    def size(self) -> int:
        """Bytes of all chunks, unpacked: about what the entry takes on a disk."""
        return sum(file.length(chunk) for file in self.files for chunk in file.chunks)

    def lengths(self) -> dict[str, int]:
        """Return every chunk once: its digest, and how many bytes it has."""
        return {chunk.digest: file.length(chunk) for file in self.files for chunk in file.chunks}

    def text(self) -> str:
        """Return the manifest as it is kept."""
        files = [
            {
                "name": file.name,
                "size": file.size,
                "private": file.private,
                "chunks": [[chunk.offset, chunk.digest] for chunk in file.chunks],
            }
            for file in self.files
        ]
        document = {
            "format": FORMAT,
            "kind": self.kind,
            "key": self.key,
            "facts": self.facts,
            "ingredients": self.ingredients,
            "image": self.image,
            "files": files,
        }
        return json.dumps({**document, "digest": _seal(document)}, indent=1, sort_keys=True) + "\n"


def is_key(text: str) -> bool:
    """Say whether a text can be the key of a cache entry."""
    return _KEY.fullmatch(text) is not None


def parse(text: bytes, kind: str, key: str) -> DepotEntry:
    """Read a manifest that somebody else wrote; nothing of it can name a place outside of the entry's folder.

    Args:
        text: what the depot gave.
        kind: which entry was asked for.
        key: likewise.

    Raises:
        CheckFailed: it is damaged, of another format, of another entry, or no manifest of ours.
    """
    name = f"the manifest of {kind} {key}"
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise CheckFailed(f"{name} has the format {document['format']!r}, and {FORMAT} is read here")
        if document.pop("digest") != _seal(document):
            raise CheckFailed(f"{name} is damaged: its digest is another one")
        found = DepotEntry(
            kind=_one_of(document["kind"], kind),
            key=_one_of(document["key"], key),
            files=tuple(_files(document["files"])),
            facts=dict(document["facts"]),
            ingredients={str(word): str(value) for word, value in dict(document["ingredients"]).items()},
            image=_image(document["image"], kind),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckFailed(f"{name} cannot be read ({type(error).__name__}: {error})") from None
    if not found.files:
        raise CheckFailed(f"{name} has no files")
    return found


def _seal(document: dict[str, Any]) -> str:
    """Return the digest of all that a manifest says, which finds what a disk or a transfer did to it."""
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _one_of(value: object, wanted: str) -> str:
    if value != wanted:
        raise ValueError(f"it says {value!r}")
    return wanted


def _image(value: object, kind: str) -> str:
    if not isinstance(value, str) or (value and not is_key(value)) or bool(value) != (kind == GOLDEN):
        raise ValueError(f"no key of an image: {value!r}")
    return value


def _files(rows: list[dict[str, Any]]) -> Iterator[FileOfEntry]:
    if len(rows) > _MOST_FILES:
        raise ValueError(f"{len(rows)} files")
    total, seen = 0, set[str]()
    for row in rows:
        name, size = _name(row["name"]), row["size"]
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MOST_BYTES:
            raise ValueError(f"{name} has {size!r} bytes")
        total += size
        if name in seen or any(str(above) in seen for above in PurePosixPath(name).parents):
            raise ValueError(f"{name} is there twice")
        if total > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        seen.add(name)
        yield FileOfEntry(name, size, bool(row["private"]), tuple(_chunks(row["chunks"], size)))


def _name(value: object) -> str:
    """Return a name of one or two plain words; what only this host writes is none."""
    words = value.split("/") if isinstance(value, str) else []
    if not 1 <= len(words) <= 2 or not all(map(_WORD.fullmatch, words)) or words[-1] == GOLDEN_FACTS:
        raise ValueError(f"no name of a file: {value!r}")
    return "/".join(words)


def _chunks(rows: list[list[Any]], size: int) -> Iterator[Chunk]:
    last = -1
    for offset, digest in rows:
        if not isinstance(offset, int) or not last < offset < size or offset % chunks.SIZE:
            raise ValueError(f"no offset of a chunk: {offset!r}")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise ValueError(f"no digest of a chunk: {digest!r}")
        last = offset
        yield Chunk(offset, digest)
