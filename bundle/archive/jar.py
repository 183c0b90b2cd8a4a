"""The Maven coordinates and licences that a jar states of its own artifact, not of what is shaded in."""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import dataclass

# What reading a foreign zip archive may raise.
BROKEN = (OSError, zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError)
_LARGEST = 1 << 20
_MOST_POMS = 500
_POM = re.compile(r"META-INF/maven/([^/]+)/([^/]+)/pom\.(properties|xml)")
# A version begins with a number; what follows a known ending is a classifier.
_NAME = re.compile(
    r"(?P<name>.+?)-(?P<version>v?\d[^-]*(?:-(?:SNAPSHOT|RELEASE|Final|GA|M\d+|RC\d+|rc\d*|alpha[-.\d]*|beta[-.\d]*"
    r"|jre\d*|android|incubating|b\d+|\d[\d.]*))*)(?:-(?P<classifier>[A-Za-z][\w.+-]*))?"
)
_LICENCE = re.compile(r"<license>(.*?)</license>", re.DOTALL)
_FIELD = re.compile(r"<(name|url)>\s*([^<]*?)\s*</\1>")


@dataclass(frozen=True)
class Coordinates:
    """Maven's name for an artifact; ``group`` is empty when the jar does not say it."""

    name: str
    version: str = ""
    group: str = ""
    classifier: str = ""
    licences: tuple[str, ...] = ()


def by_name(stem: str) -> Coordinates | None:
    """Return what a file name says, without its ``.jar``; None when it names no version."""
    match = _NAME.fullmatch(stem)
    return Coordinates(match["name"], match["version"], "", match["classifier"] or "") if match else None


def _text(jar: zipfile.ZipFile, name: str) -> str:
    entry = jar.NameToInfo.get(name)
    if entry is None or entry.file_size > _LARGEST:
        return ""
    return jar.read(entry).decode("utf-8", "replace")


def _pairs(text: str, mark: str) -> dict[str, str]:
    rows = (line.partition(mark) for line in text.splitlines() if not line.lstrip().startswith(("#", "!")))
    return {key.strip(): value.strip() for key, _, value in rows}


def manifest_of(jar: zipfile.ZipFile) -> dict[str, str]:
    """Return the main attributes of ``META-INF/MANIFEST.MF``; a line that begins with a blank goes on."""
    main = re.split(r"\r?\n\r?\n", _text(jar, "META-INF/MANIFEST.MF"), maxsplit=1)[0]
    return _pairs(re.sub(r"\r?\n ", "", main), ":")


def _poms(jar: zipfile.ZipFile) -> dict[tuple[str, str], set[str]]:
    """Return group and artifact of every pom inside, with the kinds of files that it has."""
    found: dict[tuple[str, str], set[str]] = {}
    for name in jar.NameToInfo:
        if match := _POM.fullmatch(name):
            found.setdefault((match[1], match[2]), set()).add(match[3])
            if len(found) > _MOST_POMS:
                break
    return found


def _own(stem: str, poms: dict[tuple[str, str], set[str]]) -> tuple[str, str] | None:
    """Return group and artifact of the pom that the jar was made from: the file's name begins with it."""
    fits = [row for row in poms if stem == row[1] or re.fullmatch(rf"{re.escape(row[1])}-v?\d.*", stem)]
    return max(fits, key=lambda row: len(row[1])) if fits else None


def _licences(pom: str, manifest: dict[str, str]) -> tuple[str, ...]:
    """Return the licences as the pom names them, else as the manifest does: a name, or a URL without one."""
    found = []
    for block in _LICENCE.findall(re.sub(r"<!--.*?-->", "", pom, flags=re.DOTALL)):
        fields = dict(_FIELD.findall(block))
        found.append(fields.get("name") or fields.get("url", ""))
    if not found:
        stated = re.sub(
            r'"[^"]*"', lambda quoted: quoted[0].replace(",", " "), manifest.get("Bundle-License", "")
        )
        found = [row.partition(";")[0].strip(' "') for row in stated.split(",")]
    return tuple(dict.fromkeys(row for row in found if row and not row.startswith("<<")))


def coordinates(name: str, jar: zipfile.ZipFile) -> Coordinates:
    """Return what a jar is.

    The pom of the jar's own artifact counts; those of shaded artifacts do not, also when there is only one.

    Args:
        name: file name of the jar.
        jar: the open jar.

    Raises:
        OSError, zipfile.BadZipFile, ...: one of ``BROKEN``, when the jar cannot be read.
    """
    stem = name.removesuffix(".jar")
    guess = by_name(stem) or Coordinates(stem)
    manifest = manifest_of(jar)
    poms = _poms(jar)
    own = _own(stem, poms)
    if own is None:
        group = manifest.get("Implementation-Vendor-Id", "")
        # A vendor of two words ("org.apache") is an organisation and no group.
        sound = group if re.fullmatch(r"[A-Za-z][\w-]*(\.[\w-]+){2,}", group) else ""
        return Coordinates(guess.name, guess.version, sound, guess.classifier, _licences("", manifest))
    folder = f"META-INF/maven/{own[0]}/{own[1]}"
    said = _pairs(_text(jar, f"{folder}/pom.properties"), "=")
    version = said.get("version", "")
    rest = stem[len(own[1]) + 1 :]
    named = by_name(stem)
    if rest and version and rest.startswith(version) and rest[len(version) :][:1] in {"", "-"}:
        classifier = rest[len(version) + 1 :]
    else:
        classifier = named.classifier if named and named.name == own[1] else ""
        version = version or (named.version if named else "")
    group = said.get("groupId") or own[0]
    return Coordinates(
        own[1], version, group, classifier, _licences(_text(jar, f"{folder}/pom.xml"), manifest)
    )
