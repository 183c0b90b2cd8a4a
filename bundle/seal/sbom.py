"""``sbom.cdx.json``: the bill of materials in CycloneDX: archives, jars and Debian packages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from uuid import UUID, uuid5

from bundle import __version__
from bundle.archive.members import Archive, Member
from bundle.seal.components import Component, identify
from bundle.seal.manifest import Facts, FileFact

_NAMESPACE = UUID("6f2c3f0e-6f39-5d0c-9a3c-5f6b0f1f8f4e")


def _purl(component: Component) -> str | None:
    from packageurl import PackageURL

    if component.kind == "generic" or not component.version:
        return None
    qualifiers = {"arch": component.architecture} if component.architecture else None
    namespace = component.group or None
    return str(PackageURL(component.kind, namespace, component.name, component.version, qualifiers))


def render(
    facts: Facts,
    content_digest: str,
    archives: Mapping[Archive, Iterable[Member]],
    files: dict[str, FileFact],
) -> bytes:
    """Return the bill of materials as JSON: no time stamp, a serial number from the content.

    Args:
        facts: what was built.
        content_digest: digest of the content of all members.
        archives: the members of both archives, with their sources.
        files: the finished files of the bundle.
    """
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component as Part
    from cyclonedx.model.component import ComponentType
    from cyclonedx.output.json import JsonV1Dot5
    from packageurl import PackageURL

    bom = Bom(serial_number=uuid5(_NAMESPACE, content_digest))
    root = Part(
        name="cloudstack-systemvm-patch-bundle",
        version=facts.version,
        type=ComponentType.APPLICATION,
        bom_ref=f"bundle-{content_digest}",
    )
    bom.metadata.component = root
    bom.metadata.tools.components.add(
        Part(name="sysvm-livepatch", version=__version__, type=ComponentType.APPLICATION, bom_ref="tool")
    )
    for archive, members in archives.items():
        whole = Part(
            name=archive,
            version=facts.version,
            type=ComponentType.FILE,
            bom_ref=archive,
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=files[archive].sha256)],
        )
        bom.components.add(whole)
        parts = []
        for member in members:
            found = identify(member.path, member.source) if member.source is not None else None
            if found is None:
                continue
            purl = _purl(found)
            parts.append(
                Part(
                    name=found.name,
                    group=found.group or None,
                    version=found.version or None,
                    type=ComponentType.LIBRARY,
                    purl=PackageURL.from_string(purl) if purl else None,
                    bom_ref=f"{archive}/{member.path}",
                    hashes=[HashType(alg=HashAlgorithm.SHA_256, content=member.sha256)],
                )
            )
        bom.components.update(parts)
        bom.register_dependency(whole, parts)
    bom.register_dependency(root, [part for part in bom.components if part.type is ComponentType.FILE])
    document = json.loads(JsonV1Dot5(bom).output_as_string())
    document.get("metadata", {}).pop("timestamp", None)
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"
