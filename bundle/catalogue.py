"""The release catalogue ``systemvm/releases.toml`` as typed values.

Every fact that differs between CloudStack releases is a row there; no other module compares version numbers.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from bundle.errors import UsageError
from bundle.paths import payload_root

VM_TYPES = ("router", "vpcrouter", "dhcpsrvr", "ilbvm", "elbvm", "secstorage", "consoleproxy")


@dataclass(frozen=True)
class Debian:
    """What one Debian release brings: versions that the guest scripts meet."""

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
        slim: what the reference payload uses.
        full: what a genuine template has besides.
        absent: by Debian release, packages that it does not have.
        added: by Debian release, packages that only it needs.
    """

    epoch: int
    slim: tuple[str, ...]
    full: tuple[str, ...]
    absent: dict[int, tuple[str, ...]]
    added: dict[int, tuple[str, ...]]


@dataclass(frozen=True)
class Units:
    """systemd units of a template image, by what is done to them."""

    enabled: tuple[str, ...]
    disabled: tuple[str, ...]
    masked: tuple[str, ...]


@dataclass(frozen=True)
class Services:
    """The words of ``enabled_svcs`` and ``disabled_svcs`` of one VM type."""

    enabled: tuple[str, ...]
    disabled: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """One CloudStack release as its system VMs see it. ``name`` is ``"major.minor"``."""

    name: str
    template: str
    debian: Debian
    java: int
    signature: Literal["md5", "sha512"]
    transport: Literal["iso", "upload"]
    ssh_key: Literal["agent", "cmdline"]
    guest_python: Literal["2", "3"]
    agent_on_routers: Literal["never", "removed", "kept"]
    vnc_port: bool
    disk_mib: int
    var_mib: int = 0
    remark: str = ""

    @property
    def number(self) -> tuple[int, int]:
        """Major and minor, for ordering."""
        major, minor = self.name.split(".")
        return int(major), int(minor)


@dataclass(frozen=True)
class Catalogue:
    """All releases, Debian releases, services, live paths, and what the reference payload asks for."""

    default: str
    default_from: str
    releases: dict[str, Release]
    debians: dict[int, Debian]
    services: dict[str, Services]
    live_paths: tuple[str, ...]
    packages: PackageSets
    units: Units
    reference_minimum_template: str

    def release(self, name: str) -> Release:
        """Return the row of a release; ``4.22``, ``4.22.1.0`` and ``4.22.0.0-SNAPSHOT`` name the same row.

        Raises:
            UsageError: the catalogue has no such release.
        """
        short = ".".join(name.split("-")[0].split(".")[:2])
        try:
            return self.releases[short]
        except KeyError:
            known = ", ".join(self.releases)
            raise UsageError(f"unknown release {name!r} (the catalogue has {known})") from None


def parse(document: dict[str, Any]) -> Catalogue:
    """Turn the parsed TOML document into a catalogue."""
    debians = {int(number): Debian(number=int(number), **row) for number, row in document["debian"].items()}
    releases = {
        name: Release(name=name, **{**row, "debian": debians[row["debian"]]})
        for name, row in document["release"].items()
    }
    services = {
        name: Services(tuple(row["enabled"]), tuple(row["disabled"]))
        for name, row in document["services"].items()
    }
    return Catalogue(
        default=document["default"],
        default_from=document["default_from"],
        releases=releases,
        debians=debians,
        services=services,
        live_paths=tuple(document["live"]["paths"]),
        packages=_package_sets(document["image"]),
        units=Units(
            **{name: tuple(document["image"]["units"][name]) for name in ("enabled", "disabled", "masked")}
        ),
        reference_minimum_template=document["reference"]["minimum_template"],
    )


def _package_sets(image: dict[str, Any]) -> PackageSets:
    packages = image["packages"]
    return PackageSets(
        epoch=image["epoch"],
        slim=tuple(packages["slim"]),
        full=tuple(packages["full"]),
        absent={int(number): tuple(names) for number, names in packages["absent"].items()},
        added={int(number): tuple(names) for number, names in packages["added"].items()},
    )


@cache
def load(path: Path | None = None) -> Catalogue:
    """Read the catalogue; ``path`` defaults to the one that ships with the payload."""
    source = path or payload_root() / "releases.toml"
    with source.open("rb") as file:
        return parse(tomllib.load(file))
