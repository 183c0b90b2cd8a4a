"""Bundles derived from a bundle: its contents edited, everything else as it was, and sealed anew.

What is derived keeps the patch script of its origin. A script of ours is rendered again, because it carries the digests
of what it installs; a foreign one is taken over byte for byte. The seal is unsigned unless somebody signs it: the key
of the origin is not here.
"""

from __future__ import annotations

import hashlib
import posixpath
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bundle import layout
from bundle.archive import output
from bundle.archive.digest import TrailingDigest
from bundle.archive.measure import measure
from bundle.archive.members import Archive, Item, Member, with_parents
from bundle.archive.packer import Packer
from bundle.archive.tar import tgz_stream
from bundle.archive.zip import write_zip
from bundle.errors import CheckFailed, UsageError
from bundle.seal.finish import Parts, file_facts, seal
from bundle.seal.guest_manifest import Packed
from bundle.seal.manifest import ARCHIVES, Facts, Manifest, load
from bundle.seal.signer import Signer

_EPOCH = 315532800
_ALGORITHMS = ("sha256", "sha512", "md5")
# Bytes of one member: the largest jars have some 30 MB.
_LARGEST = 1 << 30


@dataclass
class EditableArchive:
    """The members of one archive while they are edited.

    Attributes:
        folder: where the contents of its files lie, by number.
        items: the members by path.
    """

    folder: Path
    items: dict[str, Item] = field(default_factory=dict)
    _written: int = field(default=0, init=False)

    def __contains__(self, path: str) -> bool:
        """Say whether there is a file or folder of that path."""
        return path in self.items

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        Raises:
            KeyError: there is no such file.
        """
        source = self.items[path].source
        if source is None:
            raise KeyError(path)
        return source.read_bytes()

    def write(self, path: str, content: bytes, mode: int | None = None) -> None:
        """Add a file, or replace one and keep its mode where none is given; folders above it come along."""
        known = self.items.get(path)
        self._written += 1
        place = self.folder / str(self._written)
        place.write_bytes(content)
        bits = mode if mode is not None else known.mode if known is not None else 0o644
        self.items[path] = Item(path, place, bits)
        parent = path.rpartition("/")[0]
        while parent:
            self.items.setdefault(parent, Item(parent, None, 0o755))
            parent = parent.rpartition("/")[0]

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with everything below it.

        Raises:
            KeyError: there is none.
        """
        del self.items[path]
        for below in [name for name in self.items if name.startswith(f"{path}/")]:
            del self.items[below]


Edit = Callable[[dict[Archive, EditableArchive]], None]


def derive(
    bundle: Path, target: Path, edit: Edit, *, digest: Literal["md5", "sha512"] = "sha512",
    restate: Callable[[Facts], Facts] | None = None, signer: Signer | None = None,
) -> Path:  # fmt: skip
    """Make a bundle from another one; the new folder appears complete or not at all.

    Args:
        bundle: folder with the three files, with or without a manifest; it is not changed.
        target: the folder that is to appear.
        edit: changes the contents of the archives; the one that it leaves alone is taken over byte for byte.
        digest: algorithm of the signature for a bundle without manifest.
        restate: changes what the manifest says that the bundle is for.
        signer: who signs it; nobody without one.

    Returns:
        The target.

    Raises:
        UsageError: a file is missing or cannot be written, or a bundle without manifest is to be restated or signed.
        CheckFailed: an archive cannot be read, or has members that no bundle may have.
    """
    manifest = load(bundle / layout.MANIFEST) if (bundle / layout.MANIFEST).exists() else None
    if signer is not None and manifest is None:
        raise UsageError(f"bundle {bundle} has no manifest that could be signed")
    if restate is not None:
        if manifest is None:
            raise UsageError(f"bundle {bundle} has no manifest that could say something else")
        manifest = replace(manifest, facts=restate(manifest.facts))
    with (
        output.folder(target, lambda _: False) as folder,
        tempfile.TemporaryDirectory(dir=folder.parent) as scratch,
    ):
        contents = _contents(bundle, Path(scratch))
        before = {name: dict(found.items) for name, found in contents.items()}
        edit(contents)
        epoch = manifest.facts.epoch if manifest is not None else _EPOCH
        archives: dict[Archive, Packed] = {}
        for name, found in contents.items():
            members = tuple(measure(with_parents(found.items).values(), name, "careful", 2))
            if found.items == before[name]:
                shutil.copyfile(bundle / name, folder / name)
                archives[name] = Packed((folder / name).stat().st_size, _digests(folder / name), members)
            else:
                archives[name] = _write(name, folder / name, members, epoch)
        if manifest is None:
            _finish(folder, bundle, archives, digest)
        else:
            foreign = _read(bundle / layout.SCRIPT) if manifest.facts.script == "foreign" else None
            _seal(folder, manifest, archives, foreign, signer)
    return target


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _contents(bundle: Path, scratch: Path) -> dict[Archive, EditableArchive]:
    found: dict[Archive, EditableArchive] = {}
    for name in ARCHIVES:
        place = scratch / name
        place.mkdir()
        contents = EditableArchive(place)
        reader = _zip_members if name == "agent.zip" else _tar_members
        try:
            for path, mode, data in reader(bundle / name):
                if data is None:
                    contents.items[path] = Item(path, None, mode)
                else:
                    contents.write(path, data, mode)
        except (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
            raise CheckFailed(f"{bundle / name}: cannot be read: {error}") from None
        found[name] = contents
    return found


def _place(name: str, where: str) -> str:
    path = posixpath.normpath(name)
    if path.startswith(("/", "../")) or path == "..":
        raise CheckFailed(f"{where}: the name {name!r} leaves the root")
    return path


def _tar_members(path: Path) -> Iterator[tuple[str, int, bytes | None]]:
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            place = _place(member.name, path.name)
            if member.isdir():
                if place != ".":
                    yield place, member.mode & 0o7777, None
            elif member.isreg() and member.size <= _LARGEST:
                stream = archive.extractfile(member)
                yield place, member.mode & 0o7777, stream.read() if stream else b""
            else:
                raise CheckFailed(
                    f"{path.name}: {member.name!r} is no file or folder of a size that is taken"
                )


def _zip_members(path: Path) -> Iterator[tuple[str, int, bytes | None]]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            place = _place(entry.filename, path.name)
            mode = (entry.external_attr >> 16) & 0o7777 or (0o755 if entry.is_dir() else 0o644)
            if entry.is_dir():
                yield place, mode, None
            elif entry.file_size <= _LARGEST:
                yield place, mode, archive.read(entry)
            else:
                raise CheckFailed(f"{path.name}: {entry.filename!r} is larger than is taken")


def _write(name: Archive, path: Path, members: tuple[Member, ...], epoch: int) -> Packed:
    with path.open("w+b") as file, ThreadPoolExecutor(2) as pool:
        if name == "agent.zip":
            follower = TrailingDigest(file.fileno(), ())
            size = write_zip(file, members, epoch, Packer(pool, None, 6), None, follower)
        else:
            size = sum(file.write(block) for block in tgz_stream(members, epoch, pool, 6))
    path.chmod(layout.mode_of(name))
    return Packed(size, _digests(path), members)


def _digests(path: Path) -> dict[str, str]:
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in _ALGORITHMS}
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            for each in digests.values():
                each.update(block)
    return {name: each.hexdigest() for name, each in digests.items()}


def _finish(folder: Path, bundle: Path, archives: dict[Archive, Packed], digest: str) -> None:
    """Complete a folder that has no manifest: what a bundle has beside its archives, and the signature file."""
    for name in layout.PAYLOAD:
        if name not in archives:
            output.write(folder / name, _read(bundle / name), layout.mode_of(name))
    output.write(folder / layout.SIGNATURE, f"{archives['cloud-scripts.tgz'].digests[digest]}\n".encode())


def _seal(
    folder: Path, manifest: Manifest, archives: dict[Archive, Packed], foreign: bytes | None,
    signer: Signer | None,
) -> None:  # fmt: skip
    from bundle.seal import sbom

    content = Manifest(manifest.facts, {name: packed.members for name, packed in archives.items()})
    files = file_facts(folder, archives, ARCHIVES)
    bill = sbom.render(content.facts, content.content_digest, content.members, files)
    output.write(folder / layout.SBOM, bill)
    seal(folder, Parts(content, archives, foreign), signer)
