"""Jars as the agent of a CloudStack release has them, made by the tests."""

from __future__ import annotations

import zipfile
from pathlib import Path

VERSION = "4.22.0.0-SNAPSHOT"
ROOTS = ("cloud-agent", "cloud-secondary-storage", "cloud-console-proxy")


def write_jar(path: Path, *poms: tuple[str, str, str], manifest: str = "", pom: str = "") -> Path:
    """Write a jar with one class, the ``pom.properties`` of these artifacts, and a manifest's main attributes.

    Args:
        path: the jar.
        poms: group, artifact and version of each pom.
        manifest: more lines of the manifest.
        pom: text of the last artifact's ``pom.xml``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\r\n{manifest}\r\n")
        archive.writestr("org/example/Main.class", b"\xca\xfe\xba\xbe")
        for group, artifact, version in poms:
            folder = f"META-INF/maven/{group}/{artifact}"
            archive.writestr(
                f"{folder}/pom.properties",
                f"#made\ngroupId={group}\nartifactId={artifact}\nversion={version}\n",
            )
            if pom:
                archive.writestr(f"{folder}/pom.xml", pom)
    return path


def write_set(folder: Path, version: str = VERSION, *more: str) -> Path:
    """Write the agent's own jars of a version and more jars by name into a folder, and return it."""
    for artifact in ROOTS:
        write_jar(folder / f"{artifact}-{version}.jar", ("org.apache.cloudstack", artifact, version))
    for name in more:
        write_jar(folder / name)
    return folder


def write_agent_zip(path: Path, version: str = VERSION, *more: str) -> Path:
    """Write an ``agent.zip`` with the jars of a version, and return it."""
    folder = write_set(path.parent / f"of-{path.name}", version, *more)
    with zipfile.ZipFile(path, "w") as archive:
        for jar in sorted(folder.iterdir()):
            archive.write(jar, jar.name)
            jar.unlink()
        archive.writestr("run.sh", "#!/bin/bash\n")
    folder.rmdir()
    return path
