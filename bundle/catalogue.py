"""The release catalogue ``systemvm/releases.toml`` as typed values.

Every fact that differs between CloudStack releases is a row there; no other module compares version numbers.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from bundle import services as service_tables
from bundle import vm_types
from bundle.errors import UsageError
from bundle.paths import payload_root
from bundle.services import ServiceRow
from bundle.version import Span, spans
from bundle.vm_types import Family, Part, Served, VmType


@dataclass(frozen=True)
class Debian:
    """One Debian release: the versions that the guest scripts meet in it."""

    number: int
    codename: str
    kernel: str
    bash: str
    systemd: int
    python3: str
    mirror: Literal["current", "archive"]
    java: int
    kernel_package: str = "linux-image-cloud-amd64"


@dataclass(frozen=True)
class PackageSets:
    """Debian packages of template images.

    Attributes:
        epoch: the time that everything in an image has, seconds since 1970.
        kernel: the kernel of those that are not slim.
        slim: what the reference payload uses of every router.
        network: the daemons of VPN, dynamic routing and IPv6 besides.
        full: what a genuine template has besides ``slim``.
        absent: by Debian release, packages that it does not have.
        renamed: by Debian release, packages that it has under another name.
    """

    epoch: int
    kernel: str
    slim: tuple[str, ...]
    network: tuple[str, ...]
    full: tuple[str, ...]
    absent: dict[int, tuple[str, ...]]
    renamed: dict[int, dict[str, str]]


@dataclass(frozen=True)
class Units:
    """systemd units of a template image, by what is done to them."""

    enabled: tuple[str, ...]
    disabled: tuple[str, ...]
    masked: tuple[str, ...]


@dataclass(frozen=True)
class ServiceLists:
    """The words of ``enabled_svcs`` and ``disabled_svcs`` of one VM type."""

    enabled: tuple[str, ...]
    disabled: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """One CloudStack release as its system VMs see it. ``name`` is ``"major.minor"``, ``points`` its point releases.

    ``unsent`` are the parameters of the command line that servers of later releases send, and those of this one do not.
    """

    name: str
    template: str
    debian: Debian
    java: int
    signature: Literal["md5", "sha512"]
    transport: Literal["iso", "upload"]
    ssh_key: Literal["agent", "cmdline"]
    guest_python: Literal["2", "3"]
    agent_on_routers: Literal["never", "removed", "kept"]
    disk_mib: int
    var_mib: int = 0
    remark: str = ""
    points: tuple[str, ...] = ()
    unsent: frozenset[str] = frozenset()

    @property
    def number(self) -> tuple[int, int]:
        """Major and minor, for ordering."""
        return number_of(self.name)


_NAME = re.compile(
    r"(\d{1,3})\.(\d{1,3})(?:(?:\.\d{1,9}){1,2}(?:[-+][0-9A-Za-z][0-9A-Za-z.+-]*)?|-SNAPSHOT|-rc\d{1,3})?",
    re.ASCII,
)
# All releases of the catalogue.
ALL = "all"


def number_of(name: str) -> tuple[int, int]:
    """Return major and minor of a release name such as ``4.22``, ``4.22.1.0`` or ``4.22.0.0-SNAPSHOT``.

    Raises:
        UsageError: it is neither two numbers, with -SNAPSHOT or -rcN, nor a version of three or four with any ending.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UsageError(f"invalid release {name!r} (expected for instance 4.22 or 4.22.1.0)")
    return int(match[1]), int(match[2])


def full_version(name: str) -> str:
    """Return a version as four numbers: ``4.22`` and ``4.22.0.0-SNAPSHOT`` are both ``4.22.0.0``.

    Raises:
        UsageError: it is not one to four numbers and an ending.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+){1,3})(?:[-+].*)?", name, re.ASCII)
    if match is None:
        raise UsageError(f"invalid release {name!r} (expected for instance 4.22 or 4.22.1.0)")
    numbers = match[1].split(".")
    return ".".join(numbers + ["0"] * (4 - len(numbers)))


@dataclass(frozen=True)
class CheckoutRule:
    """The share of one folder of agent.zip in a CloudStack checkout."""

    into: str
    folders: tuple[str, ...]
    files: tuple[str, ...]
    since: tuple[int, int]


@dataclass(frozen=True)
class MatrixRow:
    """One statement about live patches between two ranges of releases; the ends of a range belong to it.

    Attributes:
        templates: range of the templates.
        targets: ranges of the releases patched to.
        script: ``ours`` or ``upstream`` when it is about one patch script only; else empty.
    """

    templates: Span
    targets: tuple[Span, ...]
    script: Literal["", "ours", "upstream"]
    verdict: Literal["yes", "caveat", "no", "note"]
    reason: str
    source: str
    types: tuple[str, ...]


@dataclass(frozen=True)
class Catalogue:
    """The whole catalogue; the comments in ``releases.toml`` say what each table is."""

    default: str
    default_from: str
    releases: dict[str, Release]
    debians: dict[int, Debian]
    types: dict[str, VmType]
    services: dict[str, ServiceLists]
    service_rows: dict[str, ServiceRow]
    live_paths: tuple[str, ...]
    packages: PackageSets
    units: Units
    reference_minimum_template: str
    checkout_agent: tuple[CheckoutRule, ...]
    matrix: tuple[MatrixRow, ...]
    upstream_scripts: dict[str, tuple[str, ...]]

    def release(self, name: str) -> Release:
        """Return the row of a release; ``4.22``, ``4.22.1.0`` and ``4.22.0.0-SNAPSHOT`` name the same row.

        Raises:
            UsageError: the catalogue has no such release.
        """
        short = "{}.{}".format(*number_of(name))
        try:
            return self.releases[short]
        except KeyError:
            known = ", ".join(self.releases)
            raise UsageError(f"unknown release {name!r} (the catalogue has {known})") from None

    def releases_in(self, text: str) -> list[str]:
        """Return the names of the releases that a person lists: ``4.15,4.18..4.20``, or ``all``; each once.

        Raises:
            UsageError: the catalogue has not all of them, or a range runs backwards.
        """
        found: list[str] = []
        for part in text.split(","):
            found += self._one_part(part.strip())
        return list(dict.fromkeys(found))

    def _one_part(self, part: str) -> list[str]:
        if part == ALL:
            return list(self.releases)
        first, dots, last = part.partition("..")
        if not dots:
            return [self.release(part).name]
        low, high = self.release(first).number, self.release(last).number
        if low > high:
            raise UsageError(f"invalid range {part!r}: {first} is newer than {last}", hint=f"{last}..{first}")
        return [name for name, row in self.releases.items() if low <= row.number <= high]

    def vm_type(self, name: str) -> VmType:
        """Return the row of a VM type.

        Raises:
            UsageError: the catalogue has no such type.
        """
        try:
            return self.types[name]
        except KeyError:
            raise UsageError(f"unknown VM type {name!r} (there are {', '.join(self.types)})") from None

    def services_of(self, name: str) -> tuple[ServiceLists, ...]:
        """Return the service lists of a VM type: of one by itself, then of one of a redundant pair if there are any.

        Raises:
            UsageError: the catalogue has no such type.
        """
        pair = self.services.get(f"{self.vm_type(name).name}-redundant")
        return (self.services[name], pair) if pair else (self.services[name],)

    def types_that(
        self,
        *,
        have: Part | None = None,
        serve: Served | None = None,
        family: Family | None = None,
    ) -> tuple[str, ...]:
        """Return the names of the VM types that have a part, serve somebody, and are of a family, as far as asked."""
        return tuple(
            row.name
            for row in self.types.values()
            if (have is None or have in row.has)
            and (serve is None or row.serves == serve)
            and (family is None or row.family == family)
        )

    @property
    def newest(self) -> Release:
        """The newest release that there is a row for."""
        return max(self.releases.values(), key=lambda row: row.number)


def _checkout_rule(row: dict[str, Any]) -> CheckoutRule:
    since = number_of(row["since"]) if "since" in row else (0, 0)
    return CheckoutRule(row["into"], tuple(row["from"]), tuple(row["files"]), since)


def _matrix_row(row: dict[str, Any], types: dict[str, VmType]) -> MatrixRow:
    for name in row.get("types", ()):
        if name not in types:
            raise UsageError(f"the catalogue's matrix speaks of a VM type {name!r} that has no row")
    return MatrixRow(
        templates=spans(row["from"]),
        targets=tuple(spans(text) for text in ([row["to"]] if isinstance(row["to"], str) else row["to"])),
        script=row.get("script", ""),
        verdict=row["verdict"],
        reason=row["reason"],
        source=row["source"],
        types=tuple(row.get("types", types)),
    )


def _debians(document: dict[str, Any]) -> dict[int, Debian]:
    return {int(number): Debian(number=int(number), **row) for number, row in document["debian"].items()}


def _releases(document: dict[str, Any]) -> dict[str, Release]:
    debians, since = _debians(document), document["parameters_since"]
    rows = {}
    for name, row in document["release"].items():
        later = (key for key, first in since.items() if number_of(name) < number_of(first))
        facts = {**row, "debian": debians[row["debian"]], "points": tuple(row.get("points", ()))}
        rows[name] = Release(name=name, unsent=frozenset(later), **facts)
    return rows


def parse(document: dict[str, Any]) -> Catalogue:
    """Turn the parsed TOML document into a catalogue.

    Raises:
        UsageError: its tables speak of different VM types, or a type has a word that means nothing.
    """
    types = vm_types.parse(document["type"])
    services = {
        name: ServiceLists(tuple(row["enabled"]), tuple(row["disabled"]))
        for name, row in document["services"].items()
    }
    service_rows = service_tables.parse(document["service"])
    for row in service_rows.values():
        if strange := set(row.types) - types.keys():
            raise UsageError(
                f"service {row.name!r} of the catalogue is of a VM type {min(strange)!r} that has no row"
            )
    for name in types:
        if name not in services:
            raise UsageError(f"VM type {name!r} of the catalogue has no table [services.{name}]")
    for name in services:
        if name.removesuffix("-redundant") not in types:
            raise UsageError(f"[services.{name}] of the catalogue is about no VM type")
    return Catalogue(
        default=document["default"],
        default_from=document["default_from"],
        releases=_releases(document),
        debians=_debians(document),
        types=types,
        services=services,
        service_rows=service_rows,
        live_paths=tuple(document["live"]["paths"]),
        packages=_package_sets(document["image"]),
        units=Units(
            **{name: tuple(document["image"]["units"][name]) for name in ("enabled", "disabled", "masked")}
        ),
        reference_minimum_template=document["reference"]["minimum_template"],
        checkout_agent=tuple(_checkout_rule(row) for row in document["checkout"]["agent"]),
        matrix=tuple(_matrix_row(row, types) for row in document["matrix"]),
        upstream_scripts={row["sha256"]: tuple(row["releases"]) for row in document["upstream_script"]},
    )


def _package_sets(image: dict[str, Any]) -> PackageSets:
    packages = image["packages"]
    return PackageSets(
        epoch=image["epoch"],
        kernel=packages["kernel"],
        slim=tuple(packages["slim"]),
        network=tuple(packages["network"]),
        full=tuple(packages["full"]),
        absent={int(number): tuple(names) for number, names in packages["absent"].items()},
        renamed={int(number): dict(names) for number, names in packages["renamed"].items()},
    )


@cache
def load(path: Path | None = None) -> Catalogue:
    """Read the catalogue; ``path`` defaults to the one that ships with the payload."""
    source = path or payload_root() / "releases.toml"
    with source.open("rb") as file:
        return parse(tomllib.load(file))


def vm_type(name: str) -> VmType:
    """Return a VM type of the catalogue that ships with the payload.

    Raises:
        UsageError: there is no such type.
    """
    return load().vm_type(name)
