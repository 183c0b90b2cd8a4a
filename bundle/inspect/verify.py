"""Prove a bundle folder: names, sums, manifest, signature, and every member of both archives."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bundle import layout
from bundle.archive.digest import file_digest
from bundle.archive.entries import ArchiveEntry
from bundle.archive.members import Archive, Member
from bundle.archive.read_tar import read_tgz
from bundle.archive.read_zip import read_zip
from bundle.archive.text import breaks_in_guest
from bundle.errors import CheckFailed, UsageError
from bundle.inspect.trio import effective, is_bare
from bundle.seal import dsse, manifest, sums
from bundle.seal.manifest import ARCHIVES, FileFact, Manifest, file_fact
from bundle.seal.trust import load as load_trust

# These are read as streams, or have limits of their own; all others are read at once.
_LARGE = frozenset({*layout.PAYLOAD, layout.MANIFEST, layout.SBOM})
_LARGEST_SMALL = 1 << 20


@dataclass(frozen=True)
class Verified:
    """A bundle that was proven: ``trusted`` when its signature was checked, ``signed`` when it has one."""

    manifest: Manifest
    signed: bool
    trusted: bool


def _file_names(folder: Path) -> set[str]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from error
    names = {path.name for path in entries}
    if layout.MANIFEST not in names:
        hint = "'sysvm bundle adopt' makes a bundle of these three files" if is_bare(folder) else ""
        raise CheckFailed(f"{folder}: no {layout.MANIFEST}: not a bundle", hint=hint)
    if missing := sorted(set(layout.REQUIRED) - names):
        raise CheckFailed(f"{folder}: {missing[0]} is missing")
    if odd := sorted(names - {*layout.REQUIRED, *layout.OPTIONAL}):
        raise CheckFailed(f"{folder}: {odd[0]!r} does not belong to a bundle")
    for path in entries:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise CheckFailed(f"{path}: not a regular file")
        if status.st_size > _LARGEST_SMALL and path.name not in _LARGE:
            raise CheckFailed(f"{path}: {status.st_size} bytes are too many for this file")
    return names


def _measure(folder: Path, names: set[str]) -> dict[str, FileFact]:
    """Return size and digests of every file, read once."""
    return {name: file_fact(folder / name) for name in sorted(names)}


def _check_sums(folder: Path, facts: dict[str, FileFact]) -> None:
    found = sums.parse((folder / layout.SUMS).read_bytes(), layout.SUMS)
    if odd := sorted(found.keys() ^ (facts.keys() - {layout.SUMS})):
        state = "lists" if odd[0] in found else "does not list"
        raise CheckFailed(f"{folder}: {layout.SUMS} {state} {odd[0]!r}")
    for name, digest in sorted(found.items()):
        if facts[name].sha512 != digest:
            raise CheckFailed(f"{folder}: {name} does not match {layout.SUMS}")


def _check_detached_sums(folder: Path, names: set[str]) -> None:
    """Check the ``.sha512`` files that the ASF publishes."""
    for name in sorted(names):
        if name.endswith(".sha512"):
            wanted = sums.render_one(folder / name.removesuffix(".sha512"))
            if (folder / name).read_text(encoding="ascii", errors="replace") != wanted:
                raise CheckFailed(f"{folder}: {name} does not match its file")


def _check_files(folder: Path, found: Manifest, facts: dict[str, FileFact]) -> None:
    if odd := sorted(found.files.keys() ^ set(layout.LISTED)):
        raise CheckFailed(f"{folder}: {layout.MANIFEST} does not list {odd[0]} as it should")
    for name, fact in sorted(found.files.items()):
        if facts[name].size != fact.size:
            raise CheckFailed(f"{folder}: {name} has {facts[name].size} bytes instead of {fact.size}")
        if facts[name] != fact:
            raise CheckFailed(f"{folder}: {name} does not match {layout.MANIFEST}")


def _difference(entry: ArchiveEntry, member: Member) -> str:
    """Return what differs between an entry and the member it should be, or an empty string."""
    if entry.kind != member.kind:
        return f"is a {entry.kind} instead of a {member.kind}"
    if entry.mode != member.mode:
        return f"has mode {entry.mode:04o} instead of {member.mode:04o}"
    if entry.size != member.size:
        return f"has {entry.size} bytes instead of {member.size}"
    if entry.sha256 != member.sha256:
        return "has other content"
    return "does not belong to root" if entry.owner != (0, 0) else ""


def check_members(name: Archive, entries: Iterator[ArchiveEntry], members: tuple[Member, ...]) -> None:
    """Hold the entries of an archive against the manifest.

    Raises:
        CheckFailed: a member was added, is missing, appears twice, or differs.
    """
    expected = {member.path: member for member in members}
    seen: set[str] = set()
    for entry in entries:
        if entry.path in seen:
            raise CheckFailed(f"{name}: member {entry.path!r} appears twice")
        seen.add(entry.path)
        member = expected.get(entry.path)
        if member is None:
            raise CheckFailed(f"{name}: member {entry.path!r} is not in the manifest")
        if difference := _difference(entry, member):
            raise CheckFailed(f"{name}: member {entry.path!r} {difference}")
        if entry.kind == "file" and breaks_in_guest(entry.path, entry.head):
            raise CheckFailed(f"{name}: member {entry.path!r} has CR LF line ends: no system VM can run it")
    if missing := sorted(expected.keys() - seen):
        raise CheckFailed(f"{name}: member {missing[0]!r} is missing")


def _check_signature_file(folder: Path, found: Manifest) -> None:
    digest = file_digest(folder / layout.SCRIPTS, found.facts.digest)
    if (folder / layout.SIGNATURE).read_bytes() != f"{digest}\n".encode():
        raise CheckFailed(f"{folder}: {layout.SIGNATURE} is not the {found.facts.digest} of {layout.SCRIPTS}")


def _check_trust(folder: Path, names: set[str], trust: Path) -> None:
    trusted = load_trust(trust)
    if layout.MANIFEST_SIGNATURE not in names:
        raise CheckFailed(f"{folder}: {layout.MANIFEST_SIGNATURE} is missing: the bundle is not signed")
    signature = (folder / layout.MANIFEST_SIGNATURE).read_bytes()
    trusted.check(signature, (folder / layout.MANIFEST).read_bytes(), layout.MANIFEST_SIGNATURE)


def _check_envelope(folder: Path, names: set[str], trust: Path | None) -> None:
    if layout.ENVELOPE in names:
        trusted = load_trust(trust) if trust is not None else None
        statement = (folder / layout.PROVENANCE).read_bytes()
        dsse.check((folder / layout.ENVELOPE).read_bytes(), statement, trusted, layout.ENVELOPE)


def _check_archives(folder: Path, found: Manifest) -> None:
    for name in ARCHIVES:
        reader = read_zip if name == layout.AGENT else read_tgz
        entries = reader(folder / name)
        if found.facts.origin == "adopted":
            # Others' archives may name a file twice; the last one wins, and is what the manifest describes.
            entries = (replace(row, path=path) for path, row in effective(list(entries)).items())
        check_members(name, entries, found.members[name])


def verify_installed(folder: Path, trust: Path | None = None) -> Verified:
    """Prove the three files where ``stage`` put them, by the manifest beside them.

    Args:
        folder: the folder of the host.
        trust: the public key, or the folder of keys, one of which must have signed the manifest; None checks no
            signature.

    Raises:
        CheckFailed: something does not match; the line names the file or member.
        UsageError: a file or the key cannot be read.
    """
    try:
        names = {path.name for path in folder.iterdir()}
        if trust is not None:
            _check_trust(folder, names, trust)
        found = manifest.load(folder / layout.MANIFEST)
        for name in layout.PAYLOAD:
            if name not in names:
                raise CheckFailed(f"{folder}: {name} is missing")
            if file_fact(folder / name) != found.files.get(name):
                raise CheckFailed(f"{folder}: {name} does not match {layout.MANIFEST}")
        _check_archives(folder, found)
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: {error.strerror}") from error
    return Verified(found, layout.MANIFEST_SIGNATURE in names, trust is not None)


def verify(folder: Path, trust: Path | None = None) -> Verified:
    """Prove a bundle.

    Args:
        folder: the bundle.
        trust: the public key, or the folder of keys, one of which must have signed the manifest; None checks no
            signature.

    Raises:
        CheckFailed: something does not match; the line names the file or member.
        UsageError: the folder or the key cannot be read.
    """
    try:
        names = _file_names(folder)
        if trust is not None:
            _check_trust(folder, names, trust)
        facts = _measure(folder, names)
        _check_sums(folder, facts)
        found = manifest.load(folder / layout.MANIFEST)
        _check_files(folder, found, facts)
        _check_detached_sums(folder, names)
        _check_signature_file(folder, found)
        _check_envelope(folder, names, trust)
        _check_archives(folder, found)
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: {error.strerror}") from error
    return Verified(found, layout.MANIFEST_SIGNATURE in names, trust is not None)
