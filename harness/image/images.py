"""The images in the cache: what one is, and which there are."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bundle.errors import UsageError
from harness.host import cache
from harness.image import base

KIND = "images"
DISK = "disk.qcow2"
KERNEL = "vmlinuz"
INITRD = "initrd.img"
MODULES = "modules"
SBOM = "sbom.cdx.json"
SCRIPTS = "cloud-scripts.tgz"
METADATA = "image.json"


@dataclass(frozen=True)
class Image:
    """A template image, ready to boot.

    Attributes:
        key: its name in the cache.
        folder: where it lies.
        release: the catalogue's name of the release, such as ``4.21``.
        template: what ``/etc/cloudstack-release`` says.
        debian: the Debian release inside.
        kind: ``slim``, ``full``, ``source`` (as a checkout defines it) or ``imported``.
        stand_in: the Debian release is not the one of genuine templates of that release.
        digest: SHA-256 of the disk, in hex.
        signature: content of ``cloud-scripts-signature``, or an empty string when there is none.
        root_device: ``root=`` for a direct boot.
        base: key of the cached base, or an empty string.
        size: bytes of the disk as the guest sees it.
        packages: number of Debian packages.
        left_out: what a genuine template has and this one has not, one line each.
    """

    key: str
    folder: Path
    release: str
    template: str
    debian: int
    kind: str
    stand_in: bool
    digest: str
    signature: str
    kernel_version: str
    root_device: str
    base: str
    size: int
    packages: int
    left_out: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The disk, qcow2; never written to: machines run on overlays."""
        return self.folder / DISK

    @property
    def kernel(self) -> Path:
        """The kernel for direct boot."""
        return self.folder / KERNEL

    @property
    def initrd(self) -> Path:
        """The initramfs for direct boot."""
        return self.folder / INITRD

    @property
    def sbom(self) -> Path:
        """The bill of materials, CycloneDX JSON."""
        return self.folder / SBOM

    @property
    def scripts(self) -> Path:
        """The scripts that are baked in, as ``cloud-scripts.tgz``; not there when the template has none."""
        return self.folder / SCRIPTS

    @property
    def direct_boot(self) -> bool:
        """True if there is a kernel beside the disk; if not, the disk boots by itself."""
        return self.kernel.exists()

    @property
    def metadata(self) -> dict[str, Any]:
        """The facts about the image that machines read."""
        return {**asdict(self), "folder": str(self.folder), "path": str(self.path)}

    def files(self) -> list[Path]:
        """Return the files that a machine of this image stands on."""
        return [self.path, *([self.kernel, self.initrd] if self.direct_boot else [])]

    def modules(self) -> dict[str, bytes]:
        """Return the kernel's virtio modules with what they need: file names and contents, in load order."""
        return {
            path.name.partition("-")[2]: path.read_bytes()
            for path in sorted((self.folder / MODULES).glob("*"))
        }

    def label(self) -> str:
        """Return the name that people read; a stand-in base is always said."""
        standing_in = " (stand-in base)" if self.stand_in else ""
        return f"{self.template} on Debian {self.debian} {self.kind}{standing_in}"


def save(folder: Path, **facts: object) -> None:
    """Write an image's facts into its folder."""
    (folder / METADATA).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


def load(folder: Path) -> Image:
    """Read an image of the cache, and note that it was used, and its base with it: the next build starts from that."""
    found = _read(folder)
    os.utime(folder / METADATA)
    if found.base:
        with contextlib.suppress(FileNotFoundError):  # an image does without its base
            os.utime(cache.entry(base.KIND, found.base))
    return found


def _read(folder: Path) -> Image:
    facts = load_facts(folder)
    names = {field.name for field in fields(Image)} - {"key", "folder"}
    known = {name: facts[name] for name in names - {"left_out"}}
    return Image(key=folder.name, folder=folder, left_out=tuple(facts.get("left_out", ())), **known)


def load_facts(folder: Path) -> dict[str, Any]:
    """Read what ``save`` wrote; looking is not using."""
    facts: dict[str, Any] = json.loads((folder / METADATA).read_text())
    return facts


def list_images() -> list[Image]:
    """Return the images of the cache, the one used last first; looking is not using."""
    return [_read(folder) for folder in sorted(cache.entries(KIND), key=_last_use, reverse=True)]


def find(name: str) -> Image:
    """Return the image whose key or digest starts with ``name``; looking is not using.

    Raises:
        UsageError: none does, or more than one.
    """
    found = [i for i in list_images() if name and (i.key.startswith(name) or i.digest.startswith(name))]
    if len(found) != 1:
        reason = f"{len(found)} images match" if found else "no image matches"
        raise UsageError(f"{reason} {name!r}", hint="'sysvm image list' shows them")
    return found[0]


def collect_leftovers() -> list[Path]:
    """Remove what killed builds left; returns the folders."""
    return [*cache.collect_partials(KIND), *cache.collect_partials(base.KIND)]


def _last_use(folder: Path) -> float:
    return (folder / METADATA).stat().st_mtime
