"""Take a genuine template into the cache: check its digest, read what it is, keep it as an image."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import shutil
from dataclasses import dataclass
from pathlib import Path

from bundle import catalogue, programs
from bundle.errors import CheckFailed, UsageError
from harness.host import cache
from harness.image import boot_kernel, building, customize, images, partitions, sbom
from harness.image.extreader import ExtReader
from harness.image.images import Image
from harness.record.steps import Progress, Silent

_RELEASE_FILE = "etc/cloudstack-release"
_DIGITS = {"sha512": 128, "sha256": 64, "md5": 32}


@dataclass(frozen=True)
class _Contents:
    """The words of a template's file systems about themselves."""

    template: str
    debian: int
    signature: str
    root_device: str
    packages: list[sbom.Package]


def take(
    file: Path, release: str, *, digests: dict[str, str] | None = None, progress: Progress | None = None
) -> Image:
    """Import a template.

    Args:
        file: qcow2, or one packed with bzip2, xz, zstd or gzip.
        release: the CloudStack release that it is the template of.
        digests: what the file's digests must be, by algorithm (``sha512``, ``sha256``, ``md5``).
        progress: told about the steps.

    Raises:
        UsageError: no such file, no system VM template, or another release's.
        CheckFailed: a digest differs.
    """
    wanted = catalogue.load().release(release)
    if not file.is_file():
        raise UsageError(f"{file} is no file")
    shown = progress or Silent()
    with shown.step(f"digests of {file.name}"):
        identity = _check(file, digests or {})
    key = cache.key_of("imported", identity, wanted.name)
    path = cache.entry(images.KIND, key)
    if not path.is_dir():
        cache.obtain(images.KIND, key, lambda folder: _fill(file, wanted, folder, shown))
    return images.load(path)


def _check(file: Path, digests: dict[str, str]) -> str:
    """Compare the digests given; return the SHA-256, which is the file's identity here."""
    for algorithm, digest in digests.items():
        if len(digest) != _DIGITS[algorithm] or set(digest.lower()) - set("0123456789abcdef"):
            raise UsageError(
                f"--{algorithm} {digest!r} is no {algorithm} in hex ({_DIGITS[algorithm]} digits)"
            )
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", *digests}}
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            for each in sums.values():
                each.update(block)
    for algorithm, digest in digests.items():
        found = sums[algorithm].hexdigest()
        if found != digest.lower():
            raise CheckFailed(f"{file}: {algorithm} is {found}, expected {digest.lower()}")
    return sums["sha256"].hexdigest()


def _fill(file: Path, release: catalogue.Release, folder: Path, progress: Progress) -> None:
    raw = folder / "disk.raw"
    with progress.step(f"unpacking {file.name}"):
        source = _unpack(file, folder)
        _inspect(source, file)
        _convert(source, "raw", raw)
        _convert(source, "qcow2", folder / images.DISK)
        if source != file:
            source.unlink()
    with progress.step("reading what it is"):
        systems = _file_systems(raw)
        contents = _read(systems, file)
        if _short(contents.template) != _short(release.template):
            raise UsageError(
                f"{file} is the template {contents.template}, which is not that of release {release.name}"
                f" (expected {_short(release.template)}.x)"
            )
        version = _save_kernel(systems, folder)
        if scripts := _first_bytes(systems, customize.SCRIPTS):
            (folder / images.SCRIPTS).write_bytes(scripts)
    size = raw.stat().st_size
    raw.unlink()
    stand_in = contents.debian != release.debian.number
    document = sbom.render(
        contents.packages,
        sbom.ImageSubject(contents.template, contents.debian, stand_in),
        folder.name,
        catalogue.load().packages.epoch,
    )
    (folder / images.SBOM).write_text(document)
    images.save(
        folder,
        release=release.name,
        template=contents.template,
        debian=contents.debian,
        kind="imported",
        stand_in=stand_in,
        digest=building.file_digest(folder / images.DISK),
        signature=contents.signature,
        kernel_version=version,
        root_device=contents.root_device,
        base="",
        size=size,
        packages=len(contents.packages),
    )


def _short(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _unpack(file: Path, folder: Path) -> Path:
    """Return the unpacked disk: the file itself when it is not packed."""
    target = folder / "unpacked"
    modules = {".bz2": bz2, ".gz": gzip, ".xz": lzma}
    if file.suffix == ".zst":
        _run(["zstd", "-q", "-d", "-o", str(target), str(file)])
        return target
    if file.suffix not in modules:
        return file
    try:
        with modules[file.suffix].open(file) as source, target.open("wb") as unpacked:
            shutil.copyfileobj(source, unpacked, 1 << 20)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise UsageError(f"{file} cannot be unpacked: {error}") from None
    return target


def _inspect(disk: Path, file: Path) -> None:
    """Refuse what is no qcow2, and one that points to other files of the host."""
    with disk.open("rb") as stream:
        if stream.read(4) != b"QFI\xfb":
            raise UsageError(f"{file} is no qcow2 disk")
    facts = json.loads(_run(["qemu-img", "info", "--output=json", "-f", "qcow2", str(disk)]))
    data_file = facts.get("format-specific", {}).get("data", {}).get("data-file")
    if "backing-filename" in facts or data_file:
        raise UsageError(f"{file} refers to another file ({facts.get('backing-filename') or data_file})")


def _convert(source: Path, kind: str, target: Path) -> None:
    _run(["qemu-img", "convert", "-f", "qcow2", "-O", kind, str(source), str(target)])


def _run(command: list[str]) -> str:
    """Run a program over a person's file: when it fails, the file is at fault."""
    result = programs.run(command, what="import the image", check=False)
    if result.status != 0:
        raise UsageError(f"image import: {command[0]}: {result.reason}")
    return result.stdout


def _file_systems(raw: Path) -> dict[str, ExtReader]:
    """Return the ext file systems by the name of their device in a guest."""
    found = {f"/dev/vda{p.number}": ExtReader(raw, p.offset) for p in partitions.read(raw)}
    return {device: reader for device, reader in found.items() if reader.valid()}


def _read(systems: dict[str, ExtReader], file: Path) -> _Contents:
    for device, reader in systems.items():
        try:
            words = reader.read(_RELEASE_FILE).decode().split()
        except KeyError:
            continue
        if len(words) < 3:
            raise UsageError(
                f"{file}: /{_RELEASE_FILE} says {' '.join(words)!r} (expected a version as third word)"
            )
        return _Contents(
            template=words[2],
            debian=_debian(reader),
            signature=_first(
                systems, "var/cache/cloud/cloud-scripts-signature", "cache/cloud/cloud-scripts-signature"
            ),
            root_device=device,
            packages=sbom.packages(_first(systems, "var/lib/dpkg/status", "lib/dpkg/status")),
        )
    raise UsageError(f"{file} is no system VM template: no file system has /{_RELEASE_FILE}")


def _debian(reader: ExtReader) -> int:
    number = reader.read("etc/debian_version").decode().strip().split(".")[0]
    return int(number) if number.isdecimal() else 0


def _first(systems: dict[str, ExtReader], *paths: str) -> str:
    """Return the first file that any file system has (the second path: /var is one of its own), or nothing."""
    return _first_bytes(systems, *paths).decode().strip()


def _first_bytes(systems: dict[str, ExtReader], *paths: str) -> bytes:
    for path in paths:
        for reader in systems.values():
            try:
                return reader.read(path)
            except KeyError:
                continue
    return b""


class _Joined:
    """Several file systems of one machine, seen as one: ``/boot`` may be apart."""

    def __init__(self, systems: dict[str, ExtReader]) -> None:
        self._systems = systems

    def names(self, folder: str) -> list[str]:
        return sorted({n for reader, path in self._places(folder) for n in reader.names(path)})

    def read(self, path: str) -> bytes:
        for reader, place in self._places(path):
            try:
                return reader.read(place)
            except KeyError:
                continue
        raise KeyError(path)

    def _places(self, path: str) -> list[tuple[ExtReader, str]]:
        places = [(reader, path) for reader in self._systems.values()]
        if path.startswith("boot"):
            places += [
                (reader, path.removeprefix("boot").lstrip("/") or "/") for reader in self._systems.values()
            ]
        return places


def _save_kernel(systems: dict[str, ExtReader], folder: Path) -> str:
    """Put kernel, initramfs and modules beside the disk; without a known kernel the image boots by itself only."""
    files = _Joined(systems)
    if not boot_kernel.versions(files):
        return ""
    found = boot_kernel.find(files)
    try:
        initrd = files.read(f"boot/initrd.img-{found.version}")
    except KeyError:
        return found.version
    (folder / images.KERNEL).write_bytes(found.image)
    (folder / images.INITRD).write_bytes(initrd)
    building.save_modules(folder, found.modules)
    return found.version
