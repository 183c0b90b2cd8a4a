"""Take a genuine template into the cache: check its digest, read what it is, keep it as an image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundle import catalogue, programs
from bundle.archive.limits import ImageLimits
from bundle.errors import CheckFailed, UsageError
from harness.host import cache
from harness.image import boot_kernel, building, customize, images, partitions, sbom, unpacking
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
    file: Path, release: str, *, digests: dict[str, str] | None = None, progress: Progress | None = None,
    limits: ImageLimits | None = None,
) -> Image:  # fmt: skip
    """Import a template.

    Args:
        file: qcow2, or one packed with bzip2, xz, zstd or gzip.
        release: the CloudStack release that it is the template of.
        digests: what the file's digests must be, by algorithm (``sha512``, ``sha256``, ``md5``).
        progress: told about the steps.
        limits: the most that is taken from it.

    Raises:
        UsageError: no such file, no system VM template, another release's, or one that is damaged or beyond the limits.
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
        _Import(file, wanted, shown, limits or ImageLimits()).obtain(key)
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


@dataclass(frozen=True)
class _Import:
    """One import on its way into the cache."""

    file: Path
    release: catalogue.Release
    progress: Progress
    limits: ImageLimits

    def obtain(self, key: str) -> None:
        """Put the image into the cache."""
        cache.obtain(images.KIND, key, self._fill)

    def _fill(self, folder: Path) -> None:
        raw = folder / "disk.raw"
        with self.progress.step(f"unpacking {self.file.name}"):
            self._unpack(folder, raw)
        with self.progress.step("reading what it is"), _readable(self.file):
            systems = _file_systems(raw)
            contents = _read(systems, self.file, self.limits.text)
            if _short(contents.template) != _short(self.release.template):
                raise UsageError(
                    f"{self.file} is the template {contents.template}, which is not that of release "
                    f"{self.release.name} (expected {_short(self.release.template)}.x)"
                )
            version = _save_kernel(systems, folder)
            if scripts := _first_bytes(systems, self.limits.text, customize.SCRIPTS):
                (folder / images.SCRIPTS).write_bytes(scripts)
        size = raw.stat().st_size
        raw.unlink()
        self._describe(folder, contents, version, size)

    def _unpack(self, folder: Path, raw: Path) -> None:
        """Leave the disk in the folder, as it was and raw."""
        source = self.file
        if source.suffix in unpacking.SUFFIXES:
            source = folder / "unpacked"
            unpacking.unpack(self.file, source, self.limits)
        _inspect(source, self.file, self.limits.disk)
        _convert(source, "raw", raw)
        _convert(source, "qcow2", folder / images.DISK)
        if source != self.file:
            source.unlink()

    def _describe(self, folder: Path, contents: _Contents, version: str, size: int) -> None:
        stand_in = contents.debian != self.release.debian.number
        with _readable(self.file):
            document = sbom.render(
                contents.packages,
                sbom.ImageSubject(contents.template, contents.debian, stand_in),
                folder.name,
                catalogue.load().packages.epoch,
            )
        (folder / images.SBOM).write_text(document)
        images.save(
            folder,
            release=self.release.name,
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


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn what a parser stumbles over in somebody else's image into one line."""
    try:
        yield
    except (LookupError, ValueError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UsageError(f"{file} cannot be read as a template ({said})") from None


def _short(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _inspect(disk: Path, file: Path, most: int) -> None:
    """Refuse what is no qcow2, one that points to other files of the host, and one that is too large."""
    with disk.open("rb") as stream:
        if stream.read(4) != b"QFI\xfb":
            raise UsageError(f"{file} is no qcow2 disk")
    facts = json.loads(_run(["qemu-img", "info", "--output=json", "-f", "qcow2", str(disk)]))
    data_file = facts.get("format-specific", {}).get("data", {}).get("data-file")
    if "backing-filename" in facts or data_file:
        raise UsageError(f"{file} refers to another file ({facts.get('backing-filename') or data_file})")
    if (size := facts["virtual-size"]) > most:
        raise UsageError(f"{file} is a disk of {size} bytes (at most {most} are read)")


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


def _read(systems: dict[str, ExtReader], file: Path, most: int) -> _Contents:
    for device, reader in systems.items():
        try:
            words = reader.read(_RELEASE_FILE, most).decode(errors="replace").split()
        except KeyError:
            continue
        if len(words) < 3:
            raise UsageError(
                f"{file}: /{_RELEASE_FILE} says {' '.join(words)[:80]!r} (expected a version as third word)"
            )
        return _Contents(
            template=words[2],
            debian=_debian(reader, most),
            signature=_first(
                systems,
                most,
                "var/cache/cloud/cloud-scripts-signature",
                "cache/cloud/cloud-scripts-signature",
            ),
            root_device=device,
            packages=sbom.packages(_first(systems, most, "var/lib/dpkg/status", "lib/dpkg/status")),
        )
    raise UsageError(f"{file} is no system VM template: no file system has /{_RELEASE_FILE}")


def _debian(reader: ExtReader, most: int) -> int:
    try:
        number = reader.read("etc/debian_version", most).decode(errors="replace").strip().split(".")[0]
    except KeyError:
        return 0
    return int(number) if number.isdecimal() and len(number) < 4 else 0


def _first(systems: dict[str, ExtReader], most: int, *paths: str) -> str:
    """Return the first file that any file system has (the second path: /var is one of its own), or nothing."""
    return _first_bytes(systems, most, *paths).decode(errors="replace").strip()


def _first_bytes(systems: dict[str, ExtReader], most: int, *paths: str) -> bytes:
    for path in paths:
        for reader in systems.values():
            try:
                return reader.read(path, most)
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
