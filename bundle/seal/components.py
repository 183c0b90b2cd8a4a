"""Find out what a jar, a Debian package or a script library is, from its own metadata, else from its file name."""

from __future__ import annotations

import io
import json
import lzma
import re
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from bundle.archive.jar import BROKEN, Coordinates, by_name, coordinates

_METADATA_LIMIT = 1 << 20
# The console's web page in agent.zip.
_NOVNC = "noVNC/package.json"
_JQUERY_FILE = re.compile(r"js/jquery[\w.-]*\.js")
_JQUERY = re.compile(r"jQuery(?: JavaScript Library)? v(\d+\.\d+(?:\.\d+)?)")
_DEB = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]+)_(?P<version>[^_]+)_(?P<architecture>[a-z0-9]+)\.deb")


@dataclass(frozen=True)
class Component:
    """One piece of third-party software: ``kind`` is ``maven``, ``deb``, ``npm`` or ``generic``."""

    kind: str
    name: str
    version: str = ""
    group: str = ""
    architecture: str = ""
    classifier: str = ""
    licences: tuple[str, ...] = ()


def _jar(name: str, path: Path) -> Component:
    """Return what a jar is; without a known group it is no Maven artifact that others could look up."""
    try:
        with zipfile.ZipFile(path) as jar:
            found = coordinates(name, jar)
    except BROKEN:
        found = by_name(name.removesuffix(".jar")) or Coordinates(name)
    kind = "maven" if found.group and found.version else "generic"
    return Component(
        kind, found.name, found.version, found.group, classifier=found.classifier, licences=found.licences
    )


def _javascript(path: str, source: Path) -> Component | None:
    """Return the library that a file of the console's web page names."""
    if path != _NOVNC and not _JQUERY_FILE.fullmatch(path):
        return None
    with source.open("rb") as file:
        text = file.read(_METADATA_LIMIT).decode("utf-8", "replace")
    if match := _JQUERY.search(text[:2000]):
        return Component("npm", "jquery", match[1])
    if path != _NOVNC:
        return None
    try:
        said = json.loads(text)
        group, _, name = str(said["name"]).rpartition("/")
        licence = said.get("license")
        return Component(
            *("npm", name, str(said["version"]), group),
            licences=(licence,) if isinstance(licence, str) else (),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
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


def is_component(path: str) -> bool:
    """Say whether a member of this path may be a component, so that its content has to be looked at."""
    return path.endswith((".jar", ".deb")) or path == _NOVNC or bool(_JQUERY_FILE.fullmatch(path))


def identify(path: str, source: Path) -> Component | None:
    """Return the component that a member is; None for an ordinary file.

    Args:
        path: place in the archive.
        source: the file that holds the content.
    """
    name = PurePosixPath(path).name
    if name.endswith(".jar"):
        return _jar(name, source)
    if name.endswith(".deb"):
        if found := _deb_metadata(source):
            return found
        if match := _DEB.fullmatch(name):
            return Component("deb", match["name"], match["version"], "debian", match["architecture"])
        return Component("generic", name)
    return _javascript(path, source)
