"""The bill of materials of an image: its Debian packages, from dpkg's status, as CycloneDX JSON."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

_NAMESPACE = uuid.UUID("0d5b8a54-52c5-5f3b-8f5e-2c9a5d0b7a11")


@dataclass(frozen=True)
class ImageSubject:
    """The image that a bill of materials is about."""

    template: str
    debian: int
    stand_in: bool


@dataclass(frozen=True)
class Package:
    """An installed Debian package."""

    name: str
    version: str
    architecture: str
    source: str


def packages(status: str) -> list[Package]:
    """Return the installed packages that ``/var/lib/dpkg/status`` names, sorted."""
    found = []
    for stanza in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in stanza.splitlines() if ": " in line and not line[:1].isspace()
        )
        if fields.get("Status", "").endswith(" installed"):
            source = fields.get("Source", fields["Package"]).split(" ")[0]
            found.append(Package(fields["Package"], fields["Version"], fields["Architecture"], source))
    return sorted(found, key=lambda p: (p.name, p.architecture))


def render(found: list[Package], subject: ImageSubject, key: str, epoch: int) -> str:
    """Return the document; the same arguments give the same bytes."""
    # Imported here: half a second that only a build has to spend.
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    bom = Bom()
    bom.serial_number = uuid.uuid5(_NAMESPACE, key)
    bom.metadata.timestamp = datetime.fromtimestamp(epoch, tz=UTC)
    root = Component(
        name="systemvmtemplate",
        version=subject.template,
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref="image",
        properties=[
            Property(name="sysvm:debian", value=str(subject.debian)),
            Property(name="sysvm:stand-in", value=str(subject.stand_in).lower()),
        ],
    )
    bom.metadata.component = root
    parts = []
    for package in found:
        qualifiers = {"arch": package.architecture, "distro": f"debian-{subject.debian}"}
        if package.source != package.name:
            qualifiers["upstream"] = package.source
        purl = PackageURL("deb", "debian", package.name, package.version, qualifiers)
        parts.append(
            Component(
                name=package.name,
                version=package.version,
                type=ComponentType.LIBRARY,
                bom_ref=f"{package.name}:{package.architecture}",
                purl=purl,
            )
        )
    bom.components.update(parts)
    bom.register_dependency(root, parts)
    return str(JsonV1Dot6(bom).output_as_string(indent=1)) + "\n"
