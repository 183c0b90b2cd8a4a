"""Find the jars of the agent in a Maven ``target`` or an installed ``cloudstack-common``."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path

from bundle.archive.digest import file_digest
from bundle.errors import UsageError

# Where Maven, the packages, and people who unpack agent.zip put them, relative to the folder that is named.
_FOLDERS = (".", "lib", "jars", "dependencies", "dependency", "target", "target/dependencies", "vms/agent")
# An installed cloudstack-common has the jars in here only.
_ARCHIVES = ("agent.zip", "vms/agent.zip", "target/agent.zip", "dist/agent.zip")
_NOT_RUN = ("-sources.jar", "-javadoc.jar", "-tests.jar")


def _runs(name: str) -> bool:
    return name.endswith(".jar") and not name.endswith(_NOT_RUN) and not name.startswith("original-")


def _unpack(archive: Path, scratch: Path) -> list[Path]:
    """Unpack the jars at the root of an agent.zip into ``scratch`` and return them."""
    scratch.mkdir(exist_ok=True)
    found = []
    try:
        with zipfile.ZipFile(archive) as file:
            for entry in file.infolist():
                if "/" in entry.filename or "\\" in entry.filename or not _runs(entry.filename):
                    continue
                path = scratch / entry.filename
                with file.open(entry) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                found.append(path)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise UsageError(f"{archive}: not a sound zip archive ({error})") from error
    return found


def collect_jars(folder: Path, scratch: Path) -> dict[str, Path]:
    """Return the jars that run, by file name.

    Args:
        folder: a Maven target, an installed ``cloudstack-common``, or a folder of jars.
        scratch: a folder that is made for jars that lie in an ``agent.zip``; it must outlive the build.

    Raises:
        UsageError: the folder cannot be read, has no jars, or has two of one name with other content.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    candidates = [
        path for name in _FOLDERS for path in sorted((folder / name).glob("*.jar")) if _runs(path.name)
    ]
    if not candidates:
        archive = next((folder / name for name in _ARCHIVES if (folder / name).is_file()), None)
        candidates = _unpack(archive, scratch) if archive is not None else []
    found: dict[str, Path] = {}
    for path in candidates:
        known = found.setdefault(path.name, path)
        if known is not path and file_digest(known, "sha256") != file_digest(path, "sha256"):
            raise UsageError(f"{path}: differs from {known}, and both would be {path.name} in agent.zip")
    if not found:
        raise UsageError(
            f"{folder}: no jars", hint="name a Maven target, an installed cloudstack-common, or jars"
        )
    return found
