"""The files of a bundle folder: their names, modes and what lists them."""

from __future__ import annotations

from pathlib import Path

SCRIPT = "patch-sysvms.sh"
AGENT = "agent.zip"
SCRIPTS = "cloud-scripts.tgz"
MANIFEST = "manifest.json"
MANIFEST_SIGNATURE = "manifest.json.sig"
SIGNATURE = "cloud-scripts-signature"
SUMS = "SHA512SUMS"
SBOM = "sbom.cdx.json"
PROVENANCE = "provenance.json"
ENVELOPE = "provenance.dsse.json"

PAYLOAD = (AGENT, SCRIPTS, SCRIPT)
# What the manifest lists, and so what its signature covers.
LISTED = (*PAYLOAD, SIGNATURE, SBOM, PROVENANCE)
REQUIRED = (*LISTED, MANIFEST, SUMS)
# What `sysvm bundle sign --openpgp` adds, as the ASF publishes it.
DETACHED = tuple(name + ending for name in (*PAYLOAD, MANIFEST) for ending in (".asc", ".sha512"))
OPTIONAL = (MANIFEST_SIGNATURE, ENVELOPE, *DETACHED)


def mode_of(name: str) -> int:
    """Return the permission bits of one file of a bundle folder."""
    return 0o755 if name == SCRIPT else 0o644


def is_bundle(folder: Path) -> bool:
    """Say whether a folder is a bundle and nothing more, so that a new bundle may replace it."""
    names = {path.name for path in folder.iterdir()}
    return MANIFEST in names and names <= {*REQUIRED, *OPTIONAL}
