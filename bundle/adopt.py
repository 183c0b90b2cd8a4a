"""Adopt three files that others made: the same bytes, with a manifest of their own."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bundle import catalogue, layout
from bundle.archive import output
from bundle.archive.digest import file_digest
from bundle.archive.jar import BROKEN
from bundle.archive.members import Archive, Member
from bundle.archive.reader import read_archive
from bundle.catalogue import Release, full_version
from bundle.errors import CheckFailed, UsageError
from bundle.inspect.trio import Trio, find_trio, read_script, read_trio
from bundle.matrix import minimum_template
from bundle.seal.components import is_component
from bundle.seal.finish import Parts, file_facts, seal
from bundle.seal.guest_manifest import Packed
from bundle.seal.manifest import ARCHIVES, Facts, Manifest, file_fact
from bundle.version import label_of

if TYPE_CHECKING:
    from bundle.seal.signer import Signer


def _packed(path: Path, members: tuple[Member, ...]) -> Packed:
    fact = file_fact(path)
    digests = {"sha256": fact.sha256, "sha512": fact.sha512, "md5": file_digest(path, "md5")}
    return Packed(fact.size, digests, members)


def _release(found: Trio, said: str | None) -> tuple[str, Release]:
    """Return name and row of the release: as it was said, else as the VM agent's own jar says."""
    name = said or found.version
    if not name:
        raise UsageError(
            f"{found.folder}: agent.zip has no cloud-agent jar, so its release is not known",
            hint="name it with --release",
        )
    return name, catalogue.load().release(name)


def _facts(found: Trio, said: str | None, build: int) -> Facts:
    name, row = _release(found, said)
    epoch = max((entry.mtime for entry in read_archive(found.folder / layout.SCRIPTS)), default=0)
    script = read_script(found.folder / layout.SCRIPT)
    return Facts(
        release=row.name,
        row="own",
        version=full_version(name),
        label=label_of(name),
        build=build,
        architecture="all",
        minimum_template=minimum_template(full_version(name), catalogue.load()),
        origin="adopted",
        modes="found",
        digest=row.signature,
        epoch=max(0, epoch),
        script="foreign",
        script_digest=hashlib.sha256(script).hexdigest(),
        restart="unknown",
    )


def _with_sources(agent: Path, members: tuple[Member, ...], scratch: Path) -> tuple[Member, ...]:
    """Return the members, those unpacked that the bill of materials has to look into."""
    scratch.mkdir()
    found = []
    try:
        with zipfile.ZipFile(agent) as archive:
            for number, member in enumerate(members):
                if member.kind == "file" and is_component(member.path):
                    place = scratch / str(number)
                    with archive.open(member.path) as source, place.open("wb") as target:
                        shutil.copyfileobj(source, target)
                    member = replace(member, source=place)
                found.append(member)
    except (*BROKEN, KeyError) as error:
        raise CheckFailed(f"{agent}: not a sound zip archive ({error})") from error
    return tuple(found)


def _bill(folder: Path, content: Manifest, archives: dict[Archive, Packed]) -> bytes:
    """Return the bill of materials of the archives in a folder."""
    from bundle.seal import sbom

    agent = _with_sources(folder / layout.AGENT, content.members["agent.zip"], folder.parent / "parts")
    looked = {**content.members, "agent.zip": agent}
    files = file_facts(folder, archives, ARCHIVES)
    return sbom.render(content.facts, content.content_digest, looked, files)


def adopt(
    folder: Path, place: Path, *, release: str | None = None, build: int = 0, signer: Signer | None = None
) -> Manifest:
    """Make a bundle of three files as CloudStack's build, a package or ``stage`` left them.

    The archives and the script are the same bytes. What a manifest cannot describe is refused: links, devices, other
    owners than root.

    Args:
        folder: the folder with the three files, or one that has them in ``vms`` or ``dist``.
        place: the bundle folder that is to appear.
        release: the release; None takes what the VM agent's own jar says.
        build: number of the build, which grows; 0 for none.
        signer: signs the manifest.

    Raises:
        UsageError: the files are not there, or their release is not known.
        CheckFailed: an archive or the script is broken.
        InfrastructureError: the place cannot be written.
    """
    source = find_trio(folder)
    missing = [name for name in layout.PAYLOAD if source is None or not (source / name).is_file()]
    if source is None or missing:
        raise UsageError(
            f"{source or folder}: no {missing[0]}", hint=f"a live patch has {', '.join(layout.PAYLOAD)}"
        )
    try:
        found = read_trio(source, catalogue.load())
        facts = _facts(found, release, build)
        with output.folder(place, layout.is_bundle) as new:
            archives: dict[Archive, Packed] = {}
            for name, members in found.members.items():
                shutil.copyfile(source / name, new / name)
                (new / name).chmod(layout.mode_of(name))
                archives[name] = _packed(new / name, members)
            content = Manifest(facts, found.members)
            output.write(new / layout.SBOM, _bill(new, content, archives))
            return seal(new, Parts(content, archives, read_script(source / layout.SCRIPT)), signer)
    except OSError as error:
        raise UsageError(f"{error.filename or source}: {error.strerror}") from error
