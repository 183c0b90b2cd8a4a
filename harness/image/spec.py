"""The wish for an image, and its meaning: packages, mirror, base."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bundle import catalogue
from bundle.catalogue import Debian, Release, Units
from bundle.errors import InfrastructureError, UsageError
from harness.image import appliance, availability, mirror

ImageType = Literal["slim", "network", "full", "source"]
# The oldest Debian that every mirror still has stands in for those that only an archive has.
_STAND_IN = 11
# Host keys and a TLS key are made at the first boot: the same image has the same bytes.
# What Debian's installer leaves before a checkout's own list is installed: its important packages, but for those that
# the list replaces. And what every template has that is booted here.
_INSTALLED = (
    "apt-utils", "bsdextrautils", "busybox-static", "cpio", "cron", "dbus", "dmidecode", "e2fsprogs", "fdisk",
    "ifupdown", "init", "iproute2", "isc-dhcp-client", "kmod", "less", "logrotate", "netbase", "openssh-client",
    "procps", "qemu-guest-agent", "readline-common", "sensible-utils", "systemd-sysv", "tzdata", "udev", "vim-tiny",
    "whiptail",
)  # fmt: skip
# What a checkout asks for and an image has in another way.
_REPLACED = {"grub-legacy": "the image has a boot loader of its own"}
_OWN_UNITS = ("ssh-hostkeys.service", "ssl-cert-snakeoil.service")


@dataclass(frozen=True)
class ImageSpec:
    """A person's wish for an image.

    Attributes:
        release: CloudStack release whose template this is.
        debian: another Debian than the catalogue's for that release.
        kind: ``slim`` has what the reference payload uses of every router, ``network`` the daemons of VPN, dynamic
            routing and IPv6 besides, ``full`` what a genuine template has; that of a checkout is always ``source``.
        bundle: the bundle whose scripts are baked in.
        mirror: where packages come from, instead of the host's own sources.
        source: the CloudStack checkout whose appliance definition says what the template has.
    """

    release: str
    bundle: Path
    debian: int | None = None
    kind: ImageType = "slim"
    mirror: str | None = None
    source: Path | None = None


@dataclass(frozen=True)
class Plan:
    """The plan that the build works from.

    Attributes:
        stand_in: the base is another Debian than genuine templates of that release have.
        epoch: the time that everything in the image has, seconds since 1970.
        template: the version that ``/etc/cloudstack-release`` says.
        units: what starts at boot.
        left_out: what a genuine template has and this one has not, one line each.
    """

    release: Release
    debian: Debian
    kind: ImageType
    packages: tuple[str, ...]
    mirror_lines: tuple[str, ...]
    stand_in: bool
    epoch: int
    template: str
    units: Units
    left_out: tuple[str, ...] = ()


def resolve(spec: ImageSpec) -> Plan:
    """Turn a wish into a plan.

    Raises:
        UsageError: unknown release or Debian release.
        InfrastructureError: no mirror is known.
    """
    facts = catalogue.load()
    release = facts.release(spec.release)
    debian = _debian(spec, release)
    if spec.source is not None:
        return _of_source(spec, spec.source, release, debian)
    sets = facts.packages
    more = {"network": sets.network, "full": sets.full}.get(spec.kind, ())
    names = {*sets.slim, *more}
    renamed = sets.renamed.get(debian.number, {})
    names = {renamed.get(name, name) for name in names - set(sets.absent.get(debian.number, ()))}
    if spec.kind == "full":
        names.add(f"openjdk-{debian.java}-jre-headless")
    if spec.kind == "network":
        debian = replace(debian, kernel_package=sets.kernel)
    host = "" if spec.mirror else mirror.host_codename()
    return Plan(
        release=release,
        debian=debian,
        kind=spec.kind,
        packages=tuple(sorted(names)),
        mirror_lines=tuple(mirror.lines(debian, host, mirror=spec.mirror)),
        stand_in=debian.number != release.debian.number,
        epoch=_epoch(facts.packages.epoch),
        template=release.template,
        units=facts.units,
    )


def _of_source(spec: ImageSpec, source: Path, release: Release, debian: Debian) -> Plan:
    """Return the plan of a checkout's own template, as its appliance definition says."""
    defined = appliance.read(source)
    host = "" if spec.mirror else mirror.host_codename()
    lines = mirror.lines(debian, host, mirror=spec.mirror)
    sets = catalogue.load().packages
    renamed = sets.renamed.get(debian.number, {})
    wanted = {renamed.get(name, name) for name in defined.packages} - set(_REPLACED)
    found = availability.of(sorted(wanted), lines)
    missing = [f"{name}: not in Debian {debian.number}" for name in found.missing]
    missing += [f"{name}: {_REPLACED[name]}" for name in defined.packages if name in _REPLACED]
    return Plan(
        release=release,
        debian=debian,
        kind="source",
        packages=tuple(sorted({*found.there, *_INSTALLED})),
        mirror_lines=tuple(lines),
        stand_in=debian.number != release.debian.number,
        epoch=_epoch(sets.epoch),
        template=defined.version,
        units=Units(
            enabled=(*defined.enabled, *_OWN_UNITS), disabled=defined.disabled, masked=defined.masked
        ),
        left_out=tuple(sorted({*missing, *(f"{item.what}: {item.why}" for item in defined.left_out)})),
    )


def check_debian(release: str, debian: int | None) -> None:
    """Refuse a Debian release that no template of a CloudStack release can be built on here.

    Raises:
        UsageError: the catalogue has no such release, or no such Debian.
        InfrastructureError: its packages are not on the mirrors that this host knows.
    """
    _debian(ImageSpec(release=release, bundle=Path(), debian=debian), catalogue.load().release(release))


def _debian(spec: ImageSpec, release: Release) -> Debian:
    debians = catalogue.load().debians
    number = release.debian.number if spec.debian is None else spec.debian
    if number not in debians:
        raise UsageError(
            f"unknown Debian release {number} (the catalogue has {', '.join(map(str, debians))})"
        )
    if debians[number].mirror == "current" or spec.mirror is not None:
        return debians[number]
    if spec.debian is not None:
        raise InfrastructureError(
            f"Debian {number} is only in the archive", hint="name a mirror that has it with --mirror"
        )
    return debians[_STAND_IN]


def _epoch(default: int) -> int:
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and not text.isdecimal():
        raise UsageError(f"SOURCE_DATE_EPOCH={text!r} is no number of seconds")
    return int(text or default)
