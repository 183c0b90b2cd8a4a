"""Places of the files of a live patch on each kind of host, which depend on the release."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundle import catalogue, layout
from bundle.seal.manifest import Manifest
from bundle.ship.iso import make_iso

ISO = "systemvm.iso"
KINDS = ("management", "kvm", "xenserver")
# CloudStack's own package, which owns the files on management servers and KVM hosts.
OWNER = "cloudstack-common"
_COMMON = "usr/share/cloudstack-common/vms"
_RESOURCES = "opt/xensource/packages/resources"
_IMAGES = "opt/xensource/packages/iso"
_BESIDE = (layout.MANIFEST, layout.MANIFEST_SIGNATURE)


@dataclass(frozen=True)
class HostLayout:
    """Places of the files of one release on one kind of host.

    Attributes:
        folder: the folder below ``/``.
        names: the files that the host reads.
        beside: what is kept beside them, when the bundle has it, so that they can be proven where they lie.
        owner: the package that owns these files; empty when none does.
        mode: permission bits of the files.
    """

    folder: str
    names: tuple[str, ...]
    beside: tuple[str, ...]
    owner: str
    mode: int = 0o644


def layout_of(kind: str, release: str) -> HostLayout:
    """Return the layout of a kind of host for a release.

    Hosts of releases up to 4.16 read ``systemvm.iso`` and never the three files.

    Args:
        kind: one of ``KINDS``.
        release: row of the catalogue.
    """
    image = catalogue.load().release(release).transport == "iso"
    if kind == "xenserver":
        if image:
            return HostLayout(_IMAGES, (ISO,), (), "")
        return HostLayout(_RESOURCES, layout.PAYLOAD, _BESIDE, "")
    names, beside = ((ISO,), ()) if image else (layout.PAYLOAD, _BESIDE)
    return HostLayout(_COMMON, names, beside, OWNER)


def files_for(folder: Path, found: Manifest, target: HostLayout, scratch: Path) -> dict[str, Path]:
    """Return the files that a host gets, by name.

    Args:
        folder: the bundle.
        found: its manifest.
        target: the layout.
        scratch: an existing folder for an image that has to be made.
    """
    if target.names == (ISO,):
        make_iso(folder, scratch / ISO, found)
        return {ISO: scratch / ISO}
    names = (*target.names, *(name for name in target.beside if (folder / name).exists()))
    return {name: folder / name for name in names}
