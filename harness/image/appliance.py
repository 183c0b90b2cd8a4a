"""The appliance definition of a CloudStack checkout: which packages and units its system VM template has.

A checkout describes its template by shell scripts that run inside a Debian installation. Read, never run: the packages
that it asks Debian for, the units that it switches, and the version that it gives itself. What comes from elsewhere
than Debian is listed with the reason why an image does without it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import UsageError

FOLDER = "tools/appliance/systemvmtemplate/scripts"
_PACKAGES = "install_systemvm_packages.sh"
_SERVICES = "configure_systemvm_services.sh"
_LARGEST = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_INSTALL = re.compile(r"(?:apt-get|\$\{?apt_get\}?)\s.*?\binstall\s+(.*)")
_SWITCH = re.compile(r"systemctl\s+(enable|disable|mask)\s+([\w.@-]+)")
_RELEASE = re.compile(r"^CLOUDSTACK_RELEASE=['\"]?([0-9][\w.-]*)", re.MULTILINE)
_DOWNLOAD = re.compile(r"\b(?:wget|curl)\b.*?https?://\S*?([^/\s'\"]+)(?=[\s'\"]|$)")
_SUFFIXES = (".service", ".timer", ".socket", ".target", ".mount", ".path")
# Options of apt that take a word of their own.
_TAKES_A_WORD = {"-t", "-o", "-c", "--target-release", "--option"}


@dataclass(frozen=True)
class LeftOut:
    """Something that a genuine template has and an image made here has not: what, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Appliance:
    """A template as a checkout defines it.

    Attributes:
        version: what ``/etc/cloudstack-release`` says.
        packages: names of Debian packages, sorted.
        disabled: units that do not start at boot, with their suffixes.
        masked: units that cannot be started.
        enabled: units that start at boot.
        left_out: what comes from elsewhere than Debian.
    """

    version: str
    packages: tuple[str, ...]
    disabled: tuple[str, ...]
    masked: tuple[str, ...]
    enabled: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def read(tree: Path) -> Appliance:
    """Return what a checkout says of its template.

    Args:
        tree: the checkout.

    Raises:
        UsageError: it has no appliance definition, or one in which no package or no version is found.
    """
    wanted, services = _text(tree, _PACKAGES), _text(tree, _SERVICES)
    packages, left_out = _packages(wanted)
    left_out += [
        LeftOut(what, "a download from elsewhere than Debian")
        for command in (*_commands(wanted), *_commands(services))
        for what in _DOWNLOAD.findall(command)
    ]
    version = _RELEASE.search(services)
    if not packages or version is None:
        what = "package" if not packages else "CLOUDSTACK_RELEASE"
        raise UsageError(f"{tree / FOLDER}: no {what} is found in the appliance definition")
    switched: dict[str, list[str]] = {"enable": [], "disable": [], "mask": []}
    for line in _commands(services):
        for verb, unit in _SWITCH.findall(line):
            switched[verb].append(unit if unit.endswith(_SUFFIXES) else f"{unit}.service")
    return Appliance(
        version[1], tuple(sorted(packages)), tuple(switched["disable"]), tuple(switched["mask"]),
        tuple(switched["enable"]), tuple(left_out),
    )  # fmt: skip


def _text(tree: Path, name: str) -> str:
    path = tree / FOLDER / name
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}: no template can be made of this tree",
            hint="name a CloudStack checkout that has tools/appliance, or a template with --template",
        ) from None


def _commands(text: str) -> Iterator[str]:
    """Yield a script's lines with continued ones joined, and without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield stripped


def _packages(text: str) -> tuple[set[str], list[LeftOut]]:
    names: set[str] = set()
    left_out: dict[str, LeftOut] = {}
    for command in _commands(text):
        match = _INSTALL.search(command)
        for word in _words(match[1]) if match else ():
            if ":" in word:
                left_out[word] = LeftOut(word, "a package of a foreign architecture")
            elif _NAME.fullmatch(word):
                names.add(word)
            else:
                left_out[word] = LeftOut(word, "no name of a package")
    return names, list(left_out.values())


def _words(text: str) -> Iterator[str]:
    """Yield the words behind ``install`` that are no options, up to the end of the command."""
    skip = False
    for word in shlex.split(text, comments=True, posix=True):
        if word in {"&&", "||", ";", "|"}:
            return
        if skip or word.startswith("-"):
            skip = not skip and word in _TAKES_A_WORD
            continue
        yield word.rstrip(";")
