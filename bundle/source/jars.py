"""Find the jars of the VM agent, and refuse a set that no SSVM or CPVM could start from."""

from __future__ import annotations

import contextlib
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundle.archive.digest import file_digest
from bundle.archive.jar import BROKEN, Coordinates, coordinates
from bundle.errors import UsageError

# An agent.zip is what CloudStack's own build made, so it beats loose jars beside it: the jars in the lib of an
# installed cloudstack-common are the management server's.
_ARCHIVES = (
    "agent.zip",
    "vms/agent.zip",
    "dist/agent.zip",
    "target/agent.zip",
    "systemvm/dist/agent.zip",
    "systemvm/target/agent.zip",
)
# Up to 4.16, agent.zip came on a CD.
_IMAGES = ("systemvm.iso", "vms/systemvm.iso", "dist/systemvm.iso", "systemvm/dist/systemvm.iso")
# Where Maven and people who unpack agent.zip put them, relative to the folder that is named.
_FOLDERS = (
    *(".", "lib", "jars", "dependencies", "dependency", "target", "target/dependencies", "vms/agent"),
    *("systemvm/target", "systemvm/target/dependencies"),
)
_NOT_RUN = ("-sources.jar", "-javadoc.jar", "-tests.jar")
# Without one of these the VM agent of SSVM or CPVM has no program (dependencies of CloudStack's module systemvm).
ROOTS = ("cloud-agent", "cloud-secondary-storage", "cloud-console-proxy")
_OWN = re.compile(r"cloud-[a-z-]+")
_FORMS = "an agent.zip, a systemvm.iso, a Maven target, an installed cloudstack-common, or a folder of jars"


@dataclass(frozen=True)
class Found:
    """The jars by file name, and the place that a person knows them by."""

    jars: dict[str, Path]
    place: Path


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
    except BROKEN as error:
        raise UsageError(f"{archive}: not a sound zip archive ({error})") from error
    return found


def _unpack_image(image: Path, scratch: Path) -> list[Path]:
    """Take agent.zip out of a ``systemvm.iso`` and return its jars."""
    import pycdlib
    from pycdlib.pycdlibexception import PyCdlibException

    scratch.mkdir(exist_ok=True)
    archive = scratch / "agent.zip"
    disc = pycdlib.PyCdlib()
    try:
        disc.open(str(image))
        with contextlib.closing(disc):
            kind = {"rr_path": "/agent.zip"} if disc.has_rock_ridge() else {"iso_path": "/AGENT.ZIP;1"}
            disc.get_file_from_iso(str(archive), **kind)
    except (OSError, PyCdlibException) as error:
        raise UsageError(f"{image}: no agent.zip can be read out of it ({error})") from error
    return _unpack(archive, scratch)


def _candidates(place: Path, scratch: Path) -> tuple[list[Path], Path]:
    """Return the jars of a place, and where exactly they were."""
    if place.is_file():
        return (_unpack_image if place.suffix == ".iso" else _unpack)(place, scratch), place
    if not place.is_dir():
        raise UsageError(f"{place}: no such file or folder", hint=f"name {_FORMS}")
    for names, unpack in ((_ARCHIVES, _unpack), (_IMAGES, _unpack_image)):
        for archive in (place / name for name in names):
            if archive.is_file():
                return unpack(archive, scratch), archive
    loose = [path for name in _FOLDERS for path in sorted((place / name).glob("*.jar")) if _runs(path.name)]
    return loose, place


def collect_jars(place: Path, scratch: Path) -> Found:
    """Return the jars that run.

    Args:
        place: an ``agent.zip``, a ``systemvm.iso``, a Maven target or a tree that has one, an installed
            ``cloudstack-common``, or a folder of jars.
        scratch: a folder that is made for jars that lie in an archive; it must outlive the build.

    Raises:
        UsageError: the place cannot be read, has no jars, or has two of one name with other content.
    """
    candidates, where = _candidates(place, scratch)
    found: dict[str, Path] = {}
    for path in candidates:
        known = found.setdefault(path.name, path)
        if known is not path and file_digest(known, "sha256") != file_digest(path, "sha256"):
            raise UsageError(f"{path}: differs from {known}, and both would be {path.name} in agent.zip")
    if not found:
        raise UsageError(f"{where}: no jars", hint=f"name {_FORMS}")
    return Found(found, where)


def _identified(found: Found) -> Iterator[tuple[str, Coordinates]]:
    """Yield every jar's name and what it is; refuses what is no jar."""
    for name, path in sorted(found.jars.items()):
        try:
            with zipfile.ZipFile(path) as jar:
                if not jar.infolist():
                    raise UsageError(f"{found.place}: {name} is an empty archive and no jar")
                part = coordinates(name, jar)
        except BROKEN as error:
            raise UsageError(f"{found.place}: {name} is no jar ({error})") from error
        yield name, part


def check_jars(found: Found, versions: tuple[str, ...]) -> None:
    """Refuse jars that are not those of one CloudStack release.

    Args:
        found: the jars.
        versions: how the source tree calls its version; one of them must be that of CloudStack's own jars.

    Raises:
        UsageError: a jar cannot be read, one of the VM agent's own is missing or of another release, or there
            are two versions of one artifact.
    """
    seen: dict[tuple[str, str], list[tuple[str, Coordinates]]] = {}
    own: dict[str, str] = {}
    for name, part in _identified(found):
        if _OWN.fullmatch(part.name) and part.group in {"", "org.apache.cloudstack"}:
            own[part.name] = part.version
        for other, known in seen.setdefault((part.name, part.classifier), []):
            same = not part.group or not known.group or part.group == known.group
            if same and part.version != known.version:
                raise UsageError(
                    f"{found.place}: {other} and {name} are two versions of one artifact",
                    hint="the agent would load whichever comes first; build from a clean tree",
                )
        seen[part.name, part.classifier].append((name, part))
    for root in ROOTS:
        if root not in own:
            raise UsageError(
                f"{found.place}: no {root}-{versions[0]}.jar: these are not the jars of the agent",
                hint=f"name {_FORMS}",
            )
    for name, version in sorted(own.items()):
        if version not in versions:
            raise UsageError(f"{found.place}: {name} is of {version}, and the source tree of {versions[0]}")
