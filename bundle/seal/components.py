"""Find out what a jar or a Debian package is, from its own metadata, else from its file name."""

from __future__ import annotations

import io
import lzma
import re
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_METADATA_LIMIT = 1 << 20
_POM = re.compile(r"META-INF/maven/[^/]+/[^/]+/pom\.properties")
_JAR = re.compile(
    r"(?P<name>.+?)-(?P<version>\d[^-]*(?:-(?:SNAPSHOT|RELEASE|M\d+|RC\d+|jre|GA))?)(?:-[a-z]\w*)?\.jar"
)
_DEB = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]+)_(?P<version>[^_]+)_(?P<architecture>[a-z0-9]+)\.deb")


@dataclass(frozen=True)
class Component:
    """One piece of third-party software: ``kind`` is ``maven``, ``deb`` or ``generic``."""

    kind: str
    name: str
    version: str = ""
    group: str = ""
    architecture: str = ""


def _properties(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if not line.lstrip().startswith(("#", "!")))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _jar_metadata(path: Path, stem: str) -> Component | None:
    """Return what ``pom.properties`` says; of several (a shaded jar) the one of its own name counts."""
    try:
        with zipfile.ZipFile(path) as jar:
            entries = [row for row in jar.infolist() if _POM.fullmatch(row.filename)]
            own = [row for row in entries if stem.startswith(row.filename.split("/")[3])]
            chosen = own if own else entries if len(entries) == 1 else []
            for entry in sorted(chosen, key=lambda row: -len(row.filename)):
                if entry.file_size > _METADATA_LIMIT:
                    continue
                found = _properties(jar.read(entry).decode("utf-8", "replace"))
                if found.get("artifactId") and found.get("version"):
                    return Component("maven", found["artifactId"], found["version"], found.get("groupId", ""))
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError):
        return None
    return None


def _ar_member(file: BinaryIO, prefix: str) -> tuple[str, bytes] | None:
    """Return name and content of the first ar member whose name starts with ``prefix``."""
    if file.read(8) != b"!<arch>\n":
        return None
    while len(header := file.read(60)) == 60:
        name, length = header[:16].decode("ascii", "replace").strip().rstrip("/"), header[48:58].strip()
        if not length.isdigit():
            return None
        size = int(length)
        if name.startswith(prefix):
            return (name, file.read(size)) if size <= _METADATA_LIMIT else None
        file.seek(size + size % 2, io.SEEK_CUR)
    return None


def _deb_metadata(path: Path) -> Component | None:
    try:
        with path.open("rb") as file:
            control = _ar_member(file, "control.tar")
        if control is None:
            return None
        with tarfile.open(fileobj=io.BytesIO(control[1])) as tar:
            entry = next(row for row in tar if PurePosixPath(row.name).name == "control")
            content = tar.extractfile(entry)
            text = content.read(_METADATA_LIMIT).decode("utf-8", "replace") if content else ""
    except (OSError, EOFError, StopIteration, tarfile.TarError, lzma.LZMAError, zlib.error, ValueError):
        return None
    pairs = (line.partition(":") for line in text.splitlines() if line[:1].strip())
    fields = {key: value.strip() for key, _, value in pairs}
    if not fields.get("Package") or not fields.get("Version"):
        return None
    return Component("deb", fields["Package"], fields["Version"], "debian", fields.get("Architecture", ""))


def identify(path: str, source: Path) -> Component | None:
    """Return the component that a member is; None for an ordinary file.

    Args:
        path: place in the archive.
        source: the file that holds the content.
    """
    name = PurePosixPath(path).name
    if name.endswith(".jar"):
        if found := _jar_metadata(source, name.removesuffix(".jar")):
            return found
        match = _JAR.fullmatch(name)
        return Component("maven", match["name"], match["version"]) if match else Component("generic", name)
    if name.endswith(".deb"):
        if found := _deb_metadata(source):
            return found
        if match := _DEB.fullmatch(name):
            return Component("deb", match["name"], match["version"], "debian", match["architecture"])
        return Component("generic", name)
    return None
