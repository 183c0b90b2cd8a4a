"""``sbom.cdx.json``: the bill of materials in CycloneDX 1.6: archives, jars, Debian packages and script libraries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from bundle import __version__
from bundle.archive.members import Archive, Member
from bundle.seal.components import Component, identify
from bundle.seal.manifest import Facts, FileFact

if TYPE_CHECKING:
    from cyclonedx.model.component import Component as Part
    from cyclonedx.model.license import License
    from packageurl import PackageURL

_NAMESPACE = UUID("6f2c3f0e-6f39-5d0c-9a3c-5f6b0f1f8f4e")


# How poms call the licences that most jars have.
_KNOWN = (
    (
        "Apache-2.0",
        re.compile(
            r"(the )?apache[\w ,.-]*2(\.0)?|https?://(www\.)?apache\.org/licenses/license-2\.0(\.txt|\.html)?",
            re.IGNORECASE,
        ),
    ),
    (
        "MIT",
        re.compile(
            r"(the )?mit( license)?|https?://(www\.)?opensource\.org/licenses/mit(-license)?(\.php)?",
            re.IGNORECASE,
        ),
    ),
    (
        "BSD-2-Clause",
        re.compile(r"(the )?bsd[ -]2[ -]clause( license)?|simplified bsd license", re.IGNORECASE),
    ),
    (
        "BSD-3-Clause",
        re.compile(r"(the )?bsd[ -]3[ -]clause( license)?|(the )?new bsd license", re.IGNORECASE),
    ),
    (
        "EPL-2.0",
        re.compile(
            r"(eclipse public license|epl)[ ,-]*(v|version)? ?\.?2(\.0)?|https?://www\.eclipse\.org/legal/epl-(v20|2\.0)(/|\.html)?",
            re.IGNORECASE,
        ),
    ),
    (
        "EPL-1.0",
        re.compile(
            r"(eclipse public license|epl)[ ,-]*(v|version)? ?\.?1(\.0)?|https?://www\.eclipse\.org/legal/epl-v10\.html",
            re.IGNORECASE,
        ),
    ),
)


def _licence(text: str) -> License:
    """Return a licence under its SPDX id where that is known, else under the name that the component gives it."""
    from cyclonedx.model.license import DisjunctiveLicense
    from cyclonedx.spdx import fixup_id

    known = fixup_id(text) or next((name for name, form in _KNOWN if form.fullmatch(text.strip())), None)
    return DisjunctiveLicense(id=known) if known else DisjunctiveLicense(name=text)


def _purl(component: Component) -> PackageURL | None:
    from packageurl import PackageURL

    if not component.version:
        return None
    qualifiers = {"arch": component.architecture, "classifier": component.classifier}
    stated = {key: value for key, value in qualifiers.items() if value}
    return PackageURL(
        component.kind, component.group or None, component.name, component.version, stated or None
    )


def _part(member: Member, found: Component, archive: Archive) -> Part:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component as Part
    from cyclonedx.model.component import ComponentType

    return Part(
        name=found.name,
        group=found.group or None,
        version=found.version or None,
        type=ComponentType.LIBRARY,
        purl=_purl(found),
        licenses=[_licence(text) for text in found.licences],
        bom_ref=f"{archive}/{member.path}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=member.sha256)],
    )


def _parts(members: Iterable[Member], archive: Archive) -> Iterator[Part]:
    """Yield the components among the members of an archive."""
    for member in members:
        found = identify(member.path, member.source) if member.source is not None else None
        if found is not None:
            yield _part(member, found, archive)


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
    from cyclonedx.output.json import JsonV1Dot6

    bom = Bom(serial_number=uuid5(_NAMESPACE, content_digest))
    root = Part(
        name="cloudstack-systemvm-patch-bundle",
        version=facts.name,
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
            version=facts.name,
            type=ComponentType.FILE,
            bom_ref=archive,
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=files[archive].sha256)],
        )
        bom.components.add(whole)
        parts = list(_parts(members, archive))
        bom.components.update(parts)
        bom.register_dependency(whole, parts)
    bom.register_dependency(root, [part for part in bom.components if part.type is ComponentType.FILE])
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    document.get("metadata", {}).pop("timestamp", None)
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"
