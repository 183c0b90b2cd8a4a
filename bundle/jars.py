"""Find the jars of the agent in a Maven ``target`` or an installed ``cloudstack-common``."""

from __future__ import annotations

from pathlib import Path

from bundle.digest import file_digest
from bundle.errors import UsageError

# Where Maven, the packages, and people who unpack agent.zip put them, relative to the folder that is named.
_FOLDERS = (".", "lib", "jars", "dependencies", "dependency", "target", "target/dependencies", "vms/agent")
_NOT_RUN = ("-sources.jar", "-javadoc.jar", "-tests.jar")


def collect_jars(folder: Path) -> dict[str, Path]:
    """Return the jars that run, by file name.

    Raises:
        UsageError: the folder cannot be read, has no jars, or has two of one name with other content.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for name in _FOLDERS:
        for path in sorted((folder / name).glob("*.jar")):
            if path.name.endswith(_NOT_RUN) or path.name.startswith("original-"):
                continue
            known = found.setdefault(path.name, path)
            if known is not path and file_digest(known, "sha256") != file_digest(path, "sha256"):
                raise UsageError(f"{path}: differs from {known}, and both would be {path.name} in agent.zip")
    if not found:
        raise UsageError(f"{folder}: no jars", hint="name a Maven target folder or an unpacked agent.zip")
    return found
