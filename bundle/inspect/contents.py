"""Contents of a bundle, of any three files, of a single archive or of a source tree, in one form to compare."""

from __future__ import annotations

import configparser
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from bundle import catalogue, layout
from bundle.archive.digest import file_digest
from bundle.archive.jar import BROKEN
from bundle.archive.measure import measure
from bundle.archive.members import Archive, Member
from bundle.archive.reader import read_archive
from bundle.errors import CheckFailed, UsageError
from bundle.inspect.impact import PatchScript
from bundle.inspect.trio import (
    effective,
    find_trio,
    is_installed,
    is_trio,
    know_script,
    read_script,
    version_of,
)
from bundle.seal import manifest
from bundle.seal.manifest import Facts
from bundle.source.find import find_payload
from bundle.version import named

PACKAGES = "packages/packages.ini"
_LARGEST_INI = 1 << 20

Place = tuple[Archive, str]


@dataclass(frozen=True)
class MemberFacts:
    """The facts about a member that count when two are compared."""

    kind: str
    mode: int
    size: int
    sha256: str


@dataclass(frozen=True)
class BundleContents:
    """Members by archive and path, and what is known about the whole.

    Attributes:
        name: what a person called it.
        archives: the archives that it knows; a single archive knows one.
        rows: the members.
        release: row of the catalogue; empty when unknown.
        version: full version, which the support table is asked for; empty when unknown.
        minimum_template: the oldest template that may be patched; empty when unknown.
        origin: where the payload is from; empty when unknown.
        script: the patch script.
        facts: what a person is told when it differs, by name; what is unknown is left out.
        packages: Debian packages that it brings, by name, with the Debian release and the file.
        files: the archives, for their content.
        sources: the files of a source tree, for their content.
        notes: what a person should know about it.
    """

    name: str
    archives: frozenset[Archive]
    rows: dict[Place, MemberFacts]
    release: str = ""
    version: str = ""
    minimum_template: str = ""
    origin: str = ""
    script: PatchScript = field(default_factory=PatchScript)
    facts: dict[str, str] = field(default_factory=dict)
    packages: dict[str, tuple[str, str]] = field(default_factory=dict)
    files: dict[Archive, Path] = field(default_factory=dict)
    sources: dict[Place, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


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
    except BROKEN as error:
        raise CheckFailed(f"{path.name}: {PACKAGES} cannot be read ({error})") from error
    return parse_packages(text, f"{path.name}: {PACKAGES}")


def _known(**facts: str) -> dict[str, str]:
    return {name.replace("_", " "): value for name, value in facts.items() if value}


def _of_bundle(folder: Path, name: str) -> BundleContents:
    found = manifest.load(folder / layout.MANIFEST)
    facts: Facts = found.facts
    rows = {
        (archive, row.path): MemberFacts(row.kind, row.mode, row.size, row.sha256)
        for archive, members in found.members.items()
        for row in members
    }
    if facts.script == "rendered":
        script = PatchScript("ours", facts.script_digest, facts.restart)
    else:
        script = know_script(read_script(folder / layout.SCRIPT), catalogue.load())
    notes = (f"built by the rules of {facts.release}: its own release is not in the catalogue",)
    return BundleContents(
        name=name,
        archives=frozenset(manifest.ARCHIVES),
        rows=rows,
        release=facts.release,
        version=facts.version,
        minimum_template=facts.minimum_template,
        origin=facts.origin,
        script=script,
        facts=_known(
            release=facts.name,
            minimum_template=facts.minimum_template,
            architecture=facts.architecture,
            signature_algorithm=facts.digest,
            script=script.kind,
            script_digest=script.digest,
            restart_policy=script.policy,
            signed="yes" if (folder / layout.MANIFEST_SIGNATURE).is_file() else "no",
        ),
        packages=_packages_of_zip(folder / layout.AGENT),
        files={archive: folder / archive for archive in manifest.ARCHIVES},
        notes=notes if facts.row == "newest" else (),
    )


def _rows_of(path: Path, archive: Archive) -> dict[Place, MemberFacts]:
    found = effective(list(read_archive(path)))
    return {
        (archive, place): MemberFacts(entry.kind, entry.mode, entry.size, entry.sha256)
        for place, entry in found.items()
    }


def _of_trio(folder: Path, name: str, notes: tuple[str, ...] = ()) -> BundleContents:
    facts = catalogue.load()
    script = folder / layout.SCRIPT
    known = know_script(read_script(script), facts) if script.is_file() else PatchScript()
    label = version_of(folder / layout.AGENT)
    version = catalogue.full_version(label) if label else ""
    row = facts.releases.get(".".join(version.split(".")[:2])) if version else None
    return BundleContents(
        name=name,
        archives=frozenset(manifest.ARCHIVES),
        rows=_rows_of(folder / layout.AGENT, "agent.zip")
        | _rows_of(folder / layout.SCRIPTS, "cloud-scripts.tgz"),
        release=row.name if row else "",
        version=version,
        script=known,
        facts=_known(
            release=label,
            signature_algorithm=row.signature if row else "",
            script=known.kind,
            script_digest=known.digest if known.kind != "ours" else "",
            restart_policy=known.policy,
        ),
        packages=_packages_of_zip(folder / layout.AGENT),
        files={archive: folder / archive for archive in manifest.ARCHIVES},
        notes=notes,
    )


def _of_installed(folder: Path, name: str) -> BundleContents:
    """Return what is installed: by the manifest beside it, when that is still about these files."""
    found = manifest.load(folder / layout.MANIFEST)
    if all(file_digest(folder / row, "sha512") == found.files[row].sha512 for row in layout.PAYLOAD):
        return _of_bundle(folder, name)
    return _of_trio(folder, name, (f"{layout.MANIFEST} in {folder} is about other files, and is left aside",))


def _of_archive(path: Path, name: str) -> BundleContents:
    with path.open("rb") as file:
        archive: Archive = "agent.zip" if file.read(2) == b"PK" else "cloud-scripts.tgz"
    rows = _rows_of(path, archive)
    packages = _packages_of_zip(path) if archive == "agent.zip" else {}
    return BundleContents(name, frozenset({archive}), rows, packages=packages, files={archive: path})


def _of_source(folder: Path, name: str) -> BundleContents:
    payload = find_payload(folder, None, catalogue.load(), newest=True)
    workers = len(os.sched_getaffinity(0))
    parts: dict[Archive, list[Member]] = {
        "agent.zip": measure(payload.agent.values(), "agent.zip", "careful", workers),
        "cloud-scripts.tgz": measure(payload.scripts.values(), "cloud-scripts.tgz", "careful", workers),
    }
    members = {(archive, row.path): row for archive, found in parts.items() for row in found}
    listed = payload.agent.get(PACKAGES)
    text = listed.source.read_text(encoding="utf-8", errors="replace") if listed and listed.source else ""
    return BundleContents(
        name=name,
        archives=frozenset(manifest.ARCHIVES),
        rows={place: MemberFacts(row.kind, row.mode, row.size, row.sha256) for place, row in members.items()},
        release=payload.release.name,
        version=payload.version,
        minimum_template=payload.minimum_template,
        origin=payload.origin,
        facts=_known(
            release=named(payload.version, payload.label),
            minimum_template=payload.minimum_template,
            signature_algorithm=payload.release.signature,
        ),
        packages=parse_packages(text, PACKAGES),
        sources={place: row.source for place, row in members.items() if row.source is not None},
        notes=payload.notes,
    )


def take(path: Path) -> BundleContents:
    """Return the snapshot of a bundle, of any folder with the three files, of a ``.tgz`` or ``.zip``, or a source tree.

    Raises:
        UsageError: it is none of them, or cannot be read.
        CheckFailed: it is a broken one.
    """
    try:
        if path.is_file():
            return _of_archive(path, str(path))
        if not path.is_dir():
            raise UsageError(f"{path}: no such bundle, archive or source tree")
        # A built source tree has a dist, too: the tree is meant when its root is named.
        is_source = (path / "systemvm").is_dir() or (path / "debian").is_dir()
        trio = path if is_trio(path) else None if is_source else find_trio(path)
        if trio is not None and is_installed(trio):
            return _of_installed(trio, str(path))
        if (path / layout.MANIFEST).is_file():
            return _of_bundle(path, str(path))
        if trio is not None:
            return _of_trio(trio, str(path))
        return _of_source(path, str(path))
    except OSError as error:
        raise UsageError(f"{error.filename or path}: {error.strerror}") from error
