"""Finish a bundle folder that has its archives: script, provenance, manifest, signatures and sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bundle import catalogue, layout
from bundle.archive.members import Archive
from bundle.archive.output import write
from bundle.seal import dsse, provenance, sums
from bundle.seal.guest_manifest import Packed, render_guest_manifest
from bundle.seal.manifest import FileFact, Manifest, file_fact
from bundle.seal.signer import Signer
from bundle.services import Policy


@dataclass(frozen=True)
class Parts:
    """Parts that a bundle is sealed from: content, archives, a foreign script in place of ours, and its materials."""

    content: Manifest
    archives: dict[Archive, Packed]
    script: bytes | None = None
    made_of: list[dict[str, Any]] | None = None


def guest_manifest(parts: Parts, signer: Signer | None = None) -> str:
    """Return the text that travels inside the script and that its signature covers."""
    facts = parts.content.facts
    return render_guest_manifest(
        version=facts.version,
        architecture=facts.architecture,
        minimum_template=facts.minimum_template,
        digest=facts.digest,
        archives=parts.archives,
        build=facts.build,
        key=signer.key_id if signer is not None else "",
    )


def _script(parts: Parts, signer: Signer | None) -> bytes:
    if parts.script is not None:
        return parts.script
    from bundle.seal.script import ScriptSpec, render

    text = guest_manifest(parts, signer)
    spec = ScriptSpec(
        release=catalogue.load().release(parts.content.facts.release),
        guest_manifest=text,
        signature=signer.sign(text.encode()) if signer is not None else None,
        restart=cast(Policy, parts.content.facts.restart),
    )
    text = render(spec)
    return text.encode()


# Files of the bundle beside the archives and what describes them, and what gives their content.
_MADE: dict[str, Callable[[Parts, Signer | None], bytes]] = {layout.SCRIPT: _script}


def file_facts(folder: Path, archives: dict[Archive, Packed], names: tuple[str, ...]) -> dict[str, FileFact]:
    """Return size and digests of files in a folder; those of the archives are known already."""
    facts = {
        name: FileFact(packed.size, packed.digests["sha256"], packed.digests["sha512"])
        for name, packed in archives.items()
    }
    return facts | {name: file_fact(folder / name) for name in names if name not in facts}


def seal(folder: Path, parts: Parts, signer: Signer | None) -> Manifest:
    """Write everything that depends on the finished archives and on who signs; returns the manifest.

    Args:
        folder: the bundle folder with both archives and the bill of materials.
        parts: what the bundle is made of.
        signer: signs the manifest and the guest manifest; None leaves the bundle unsigned.
    """
    content, archives = parts.content, parts.archives
    facts = content.facts
    for name, make in _MADE.items():
        write(folder / name, make(parts, signer), layout.mode_of(name))
    digest = archives["cloud-scripts.tgz"].digests[facts.digest]
    write(folder / layout.SIGNATURE, f"{digest}\n".encode())
    subjects = file_facts(folder, archives, layout.PAYLOAD)
    made_of = parts.made_of or provenance.dependencies(facts, content.content_digest, None)
    statement = provenance.statement(facts, subjects, made_of)
    write(folder / layout.PROVENANCE, statement)
    if signer is not None:
        write(folder / layout.ENVELOPE, dsse.wrap(statement, signer))
    manifest = content.with_files(file_facts(folder, archives, layout.LISTED))
    data = manifest.to_bytes()
    write(folder / layout.MANIFEST, data)
    if signer is not None:
        write(folder / layout.MANIFEST_SIGNATURE, signer.sign(data))
    write_sums(folder, manifest)
    return manifest


def write_sums(folder: Path, manifest: Manifest) -> None:
    """Write ``SHA512SUMS`` over everything that lies in the folder now."""
    known = {name: fact.sha512 for name, fact in manifest.files.items()}
    write(folder / layout.SUMS, sums.render(folder, known).encode())
