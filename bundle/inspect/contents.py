"""What a bundle folder, a single archive or a source tree holds, in one form that can be compared."""

from __future__ import annotations

import configparser
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from bundle import catalogue, layout
from bundle.archive.measure import measure
from bundle.archive.members import Archive, Member
from bundle.archive.reader import read_archive
from bundle.errors import CheckFailed, UsageError
from bundle.seal import manifest
from bundle.seal.manifest import Facts
from bundle.source.find import find_payload

PACKAGES = "packages/packages.ini"
_LARGEST_INI = 1 << 20


@dataclass(frozen=True)
class Row:
    """What counts about a member when two are compared."""

    kind: str
    mode: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Snapshot:
    """Members by archive and path, and what is known about the whole.

    Attributes:
        name: what a person called it.
        archives: the archives that it knows; a single archive knows one.
        rows: the members.
        release: row of the catalogue; empty when unknown.
        minimum_template: the oldest template that may be patched; empty when unknown.
        graceful: whether its script reloads services where it can.
        packages: Debian packages that it brings, by name, with the Debian release and the file.
    """

    name: str
    archives: frozenset[Archive]
    rows: dict[tuple[Archive, str], Row]
    release: str = ""
    minimum_template: str = ""
    graceful: bool = True
    packages: dict[str, tuple[str, str]] = field(default_factory=dict)


def parse_packages(text: str, where: str) -> dict[str, tuple[str, str]]:
    """Return the packages of a ``packages.ini`` by name: Debian release and file name.

    Raises:
        CheckFailed: it is not an INI file.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text, where)
    except configparser.Error as error:
        raise CheckFailed(f"{where}: {str(error).splitlines()[0]}") from error
    sections = (parser[name] for name in parser.sections())
    return {
        section.get("package_name", section.name): (
            section.get("debian_os", ""),
            section.get("file_name", ""),
        )
        for section in sections
    }


def _packages_of_zip(path: Path) -> dict[str, tuple[str, str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.NameToInfo.get(PACKAGES)
            if entry is None or entry.file_size > _LARGEST_INI:
                return {}
            text = archive.read(entry).decode("utf-8", "replace")
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError) as error:
        raise CheckFailed(f"{path.name}: {PACKAGES} cannot be read ({error})") from error
    return parse_packages(text, f"{path.name}: {PACKAGES}")


def _of_bundle(folder: Path, name: str) -> Snapshot:
    found = manifest.load(folder / layout.MANIFEST)
    facts: Facts = found.facts
    rows = {
        (archive, row.path): Row(row.kind, row.mode, row.size, row.sha256)
        for archive, members in found.members.items()
        for row in members
    }
    return Snapshot(
        name=name,
        archives=frozenset(manifest.ARCHIVES),
        rows=rows,
        release=facts.release,
        minimum_template=facts.minimum_template,
        graceful=facts.script == "rendered" and facts.restart == "graceful",
        packages=_packages_of_zip(folder / layout.AGENT),
    )


def _of_archive(path: Path, name: str) -> Snapshot:
    with path.open("rb") as file:
        archive: Archive = "agent.zip" if file.read(2) == b"PK" else "cloud-scripts.tgz"
    rows = {
        (archive, entry.path): Row(entry.kind, entry.mode, entry.size, entry.sha256)
        for entry in read_archive(path)
    }
    packages = _packages_of_zip(path) if archive == "agent.zip" else {}
    return Snapshot(name, frozenset({archive}), rows, packages=packages)


def _of_source(folder: Path, name: str) -> Snapshot:
    payload = find_payload(folder, None, catalogue.load())
    workers = len(os.sched_getaffinity(0))
    parts: dict[Archive, list[Member]] = {
        "agent.zip": measure(payload.agent.values(), "agent.zip", "careful", workers),
        "cloud-scripts.tgz": measure(payload.scripts.values(), "cloud-scripts.tgz", "careful", workers),
    }
    rows = {
        (archive, row.path): Row(row.kind, row.mode, row.size, row.sha256)
        for archive, members in parts.items()
        for row in members
    }
    listed = payload.agent.get(PACKAGES)
    text = listed.source.read_text(encoding="utf-8", errors="replace") if listed and listed.source else ""
    return Snapshot(
        name=name,
        archives=frozenset(manifest.ARCHIVES),
        rows=rows,
        release=payload.release.name,
        minimum_template=payload.minimum_template,
        packages=parse_packages(text, PACKAGES),
    )


def take(path: Path) -> Snapshot:
    """Return the snapshot of a bundle folder, a ``.tgz`` or ``.zip``, or a source tree.

    Raises:
        UsageError: it is none of them, or cannot be read.
        CheckFailed: it is a broken one.
    """
    try:
        if path.is_file():
            return _of_archive(path, str(path))
        if (path / layout.MANIFEST).is_file():
            return _of_bundle(path, str(path))
        if path.is_dir():
            return _of_source(path, str(path))
    except OSError as error:
        raise UsageError(f"{error.filename or path}: {error.strerror}") from error
    raise UsageError(f"{path}: no such bundle, archive or source tree")
