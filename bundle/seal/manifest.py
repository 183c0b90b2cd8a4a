"""``manifest.json``: what a bundle is and what is inside, in the one canonical form of RFC 8785.

docs/bundle.md documents the schema. The content digest covers everything but the wrappers (the finished files), and
the patch script by its program, so that it is the same wherever the same source is built, also with another zlib.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn

from bundle.archive import canonical
from bundle.archive.members import Archive, Member
from bundle.errors import CheckFailed
from bundle.version import named

SCHEMA = 2
NAME = "manifest.json"
ARCHIVES: tuple[Archive, ...] = ("agent.zip", "cloud-scripts.tgz")
_LARGEST = 512 << 20
_WORD = re.compile(r"[A-Za-z0-9._+-]{1,64}")
_HEX = {"sha256": re.compile(r"[0-9a-f]{64}"), "sha512": re.compile(r"[0-9a-f]{128}")}


@dataclass(frozen=True)
class FileFact:
    """Size in bytes and digests of one finished file of the bundle."""

    size: int
    sha256: str
    sha512: str


def file_fact(path: Path) -> FileFact:
    """Return size and digests of a file, read once."""
    one, two, size = hashlib.sha256(), hashlib.sha512(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            one.update(block)
            two.update(block)
            size += len(block)
    return FileFact(size, one.hexdigest(), two.hexdigest())


@dataclass(frozen=True)
class Facts:
    """Facts about a bundle: its sources, its options and its target.

    Attributes:
        release: row of the catalogue, ``major.minor``.
        row: ``own`` when that row is the version's own, ``newest`` when the version is newer than the catalogue.
        version: full version of CloudStack, four numbers.
        label: what the version has beside its numbers, for instance ``SNAPSHOT`` or a fork's name; often empty.
        build: number of the build, which grows; 0 when nobody gave one.
        architecture: ``all``, ``amd64`` or ``arm64``.
        minimum_template: the oldest template that may be patched.
        origin: ``reference``, ``checkout``, or ``adopted`` for archives that others made.
        modes: the mode rules, ``careful`` or ``upstream``; ``found`` for adopted archives.
        digest: algorithm of ``cloud-scripts-signature``.
        epoch: time stamp of all members, seconds since 1970.
        script: ``rendered`` for our patch script, ``foreign`` for one that was given.
        script_digest: SHA-256 of a foreign script; of a rendered one without what travels inside it, the guest
            manifest and its signature, so that it is the same for the same program.
        restart: how the rendered script restarts services, ``graceful``, ``always`` or ``changed``; ``unknown`` for a
            foreign one.
    """

    release: str
    row: str
    version: str
    label: str
    build: int
    architecture: str
    minimum_template: str
    origin: str
    modes: str
    digest: Literal["md5", "sha512"]
    epoch: int
    script: str
    script_digest: str
    restart: str

    @property
    def name(self) -> str:
        """Version and label, as CloudStack writes them."""
        return named(self.version, self.label)


@dataclass(frozen=True)
class Manifest:
    """The whole manifest."""

    facts: Facts
    members: dict[Archive, tuple[Member, ...]]
    files: dict[str, FileFact] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Return what the content digest covers: everything but the finished files."""
        return {
            "schema": SCHEMA,
            **vars(self.facts),
            "members": member_rows(self.members),
        }

    @cached_property
    def content_digest(self) -> str:
        """SHA-256 of the canonical content, in lower-case hex."""
        return hashlib.sha256(canonical.dumps(self.content())).hexdigest()

    def with_files(self, files: dict[str, FileFact]) -> Manifest:
        """Return the same content with the finished files."""
        found = Manifest(self.facts, self.members, files)
        # The content is the same, and so is its digest, which takes long to compute.
        vars(found)["content_digest"] = self.content_digest
        return found

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: what lies on disk, and what is signed."""
        files = {name: vars(fact) for name, fact in self.files.items()}
        return canonical.dumps({**self.content(), "content_digest": self.content_digest, "files": files})


def member_rows(members: dict[Archive, tuple[Member, ...]]) -> dict[str, list[dict[str, Any]]]:
    """Return the members of both archives as the manifest lists them."""
    return {name: [_member_row(member) for member in rows] for name, rows in members.items()}


def _member_row(member: Member) -> dict[str, Any]:
    row: dict[str, Any] = {"path": member.path, "kind": member.kind, "mode": f"{member.mode:04o}"}
    if member.kind == "file":
        row |= {"size": member.size, "sha256": member.sha256}
    return row


class _Reader:
    """Takes typed values out of a parsed document, and says where it is wrong."""

    def __init__(self, where: str) -> None:
        self._where = where

    def fail(self, message: str) -> NoReturn:
        raise CheckFailed(f"{self._where}: {message}")

    def table(self, value: object, what: str, keys: set[str] | None = None) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail(f"{what} is not an object")
        if keys is not None and value.keys() != keys:
            odd = sorted(value.keys() ^ keys)[0]
            self.fail(f"{what} {'lacks' if odd in keys else 'has an unknown key'} {odd!r}")
        return value

    def text(self, value: object, what: str) -> str:
        if not isinstance(value, str):
            self.fail(f"{what} is not a string")
        return value

    def word(self, value: object, what: str) -> str:
        text = self.text(value, what)
        if not _WORD.fullmatch(text):
            self.fail(f"{what} is {text!r} (expected letters, digits and . _ + -)")
        return text

    def path(self, value: object, what: str) -> str:
        text = self.text(value, what)
        if any(part in {"", ".", ".."} for part in text.split("/")):
            self.fail(f"{what} is {text!r}, which is absolute or leads elsewhere")
        if any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in text):
            self.fail(f"{what} is {text!r}, which has control characters")
        return text

    def number(self, value: object, what: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.fail(f"{what} is not a whole number")
        return value

    def choice(self, value: object, what: str, *choices: str) -> str:
        if value not in choices:
            self.fail(f"{what} is {value!r} (expected {' or '.join(choices)})")
        return str(value)

    def hexadecimal(self, value: object, what: str, algorithm: str) -> str:
        text = self.text(value, what)
        if not _HEX[algorithm].fullmatch(text):
            self.fail(f"{what} is not a {algorithm} digest")
        return text

    def member(self, value: object, archive: str) -> Member:
        row = self.table(value, f"a member of {archive}")
        path = self.path(row.get("path"), f"the path of a member of {archive}")
        what = f"member {path!r} of {archive}"
        kind = self.choice(row.get("kind"), f"the kind of {what}", "file", "dir")
        self.table(row, what, {"path", "kind", "mode"} | ({"size", "sha256"} if kind == "file" else set()))
        mode = self.text(row["mode"], f"the mode of {what}")
        if not re.fullmatch(r"[0-7]{4}", mode):
            self.fail(f"the mode of {what} is {mode!r} (expected four octal digits)")
        if kind == "dir":
            return Member(path, "dir", int(mode, 8))
        size = self.number(row["size"], f"the size of {what}")
        return Member(
            path,
            "file",
            int(mode, 8),
            size,
            self.hexadecimal(row["sha256"], f"the digest of {what}", "sha256"),
        )

    def members(self, value: object) -> dict[Archive, tuple[Member, ...]]:
        table = self.table(value, "members", set(ARCHIVES))
        found: dict[Archive, tuple[Member, ...]] = {}
        for name in ARCHIVES:
            if not isinstance(table[name], list):
                self.fail(f"members of {name} are not a list")
            found[name] = rows = tuple(self.member(row, name) for row in table[name])
            for one, two in pairwise(rows):
                if one.path >= two.path:
                    self.fail(f"members of {name} are not sorted or not unique at {two.path!r}")
        return found

    def file(self, name: str, value: object) -> FileFact:
        row = self.table(value, f"file {name!r}", {"size", "sha256", "sha512"})
        return FileFact(
            self.number(row["size"], f"the size of {name!r}"),
            self.hexadecimal(row["sha256"], f"the SHA-256 of {name!r}", "sha256"),
            self.hexadecimal(row["sha512"], f"the SHA-512 of {name!r}", "sha512"),
        )


_TEXTS = (
    *("release", "row", "version", "architecture", "minimum_template", "origin", "modes", "script"),
    *("script_digest", "restart"),
)


def parse(data: bytes, where: str = NAME) -> Manifest:
    """Read a manifest and check its form; every deviation is an error.

    Raises:
        CheckFailed: the bytes are not a canonical manifest of this schema.
    """
    reader = _Reader(where)
    try:
        document = json.loads(data)
        canonical.check(document)
        expected = canonical.dumps(document)
    except (ValueError, RecursionError) as error:
        reader.fail(f"not canonical JSON: {error}")
    if expected != data:
        reader.fail("not in canonical form (RFC 8785)")
    keys = {"schema", "label", "build", "digest", "epoch", "members", "files", "content_digest", *_TEXTS}
    said = reader.table(document, "the manifest").get("schema")
    if said != SCHEMA or isinstance(said, bool):
        reader.fail(
            f"schema {said!r} is unknown (expected {SCHEMA}); 'sysvm bundle adopt' makes a new manifest"
        )
    table = reader.table(document, "the manifest", keys)
    plain: dict[str, Any] = {name: reader.word(table[name], name) for name in _TEXTS}
    label = "" if table["label"] == "" else reader.word(table["label"], "label")
    reader.hexadecimal(table["script_digest"], "script_digest", "sha256")
    digest: Literal["md5", "sha512"] = "md5" if table["digest"] == "md5" else "sha512"
    reader.choice(table["digest"], "digest", "md5", "sha512")
    plain |= {name: reader.number(table[name], name) for name in ("epoch", "build")}
    facts = Facts(**plain, label=label, digest=digest)
    files = {name: reader.file(name, row) for name, row in reader.table(table["files"], "files").items()}
    manifest = Manifest(facts, reader.members(table["members"]), files)
    if table["content_digest"] != manifest.content_digest:
        reader.fail("the content digest does not match the content")
    return manifest


def load(path: Path) -> Manifest:
    """Read ``manifest.json``.

    Raises:
        CheckFailed: the file is missing or not a manifest of this schema.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise CheckFailed(f"{path}: larger than any manifest")
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise CheckFailed(f"{path}: {error.strerror}") from error
