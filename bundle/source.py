"""Find out what a source tree is, and turn it into a payload."""

from __future__ import annotations

from pathlib import Path

from bundle.catalogue import Catalogue
from bundle.errors import UsageError
from bundle.paths import payload_root
from bundle.payload import Payload, is_reference, reference_payload


def find_payload(
    source: Path | None, release: str | None, agent_jars: Path | None, catalogue: Catalogue
) -> Payload:
    """Return the payload of a source tree.

    Args:
        source: a CloudStack checkout, a copy of this project or of its ``systemvm/``; None for the reference
            payload.
        release: the release to build; None takes what the tree says, or the catalogue's default.
        agent_jars: where the jars of a checkout's agent are.
        catalogue: the release catalogue.

    Raises:
        UsageError: the tree is neither, or the options do not fit it.
    """
    root = payload_root() if source is None else source
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    for place in (root, root / "systemvm"):
        if is_reference(place):
            if agent_jars is not None:
                raise UsageError(
                    "--agent-jars is for a CloudStack checkout; the reference payload has no jars"
                )
            return reference_payload(place, catalogue.release(release or catalogue.default), catalogue)
    from bundle.checkout import checkout_payload

    return checkout_payload(root, release, agent_jars, catalogue)
