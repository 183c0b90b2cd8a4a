"""Find out what a source tree is, and turn it into a payload."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bundle.catalogue import Catalogue
from bundle.errors import InfrastructureError, UsageError
from bundle.paths import payload_root
from bundle.source.checkout import Jars, checkout_payload
from bundle.source.payload import Payload, is_reference, reference_payload
from bundle.source.version_control import look


def _find(root: Path, release: str | None, catalogue: Catalogue, jars: Jars | None, newest: bool) -> Payload:
    for place in (root, root / "systemvm"):
        if is_reference(place):
            if jars is not None:
                raise UsageError(
                    "--agent-jars is for a CloudStack checkout; the reference payload has no jars"
                )
            return reference_payload(place, release or catalogue.default, catalogue)
    return checkout_payload(root, release, jars, catalogue, newest=newest)


_SHOWN = 5


def find_payload(
    source: Path | None,
    release: str | None,
    catalogue: Catalogue,
    jars: Jars | None = None,
    *,
    newest: bool = False,
) -> Payload:
    """Return the payload of a source tree.

    Args:
        source: a CloudStack checkout, a copy of this project or of its ``systemvm/``; None for the reference
            payload.
        release: the release to build; None takes what the tree says, or the catalogue's default.
        catalogue: the release catalogue.
        jars: where the jars of a checkout's agent are.
        newest: whether the newest row stands in for a release that is newer than the catalogue.

    Raises:
        UsageError: the tree is neither, or the options do not fit it.
    """
    root = payload_root() if source is None else source
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    return _with_checkout(_find(root, release, catalogue, jars, newest), root)


def _with_checkout(payload: Payload, root: Path) -> Payload:
    """Return the payload with what git knows about it, and notes on what a release should not have."""
    # Jars are made and not checked in, also when they lie inside the tree.
    agent = (item for item in payload.agent.values() if "/" in item.path or not item.path.endswith(".jar"))
    files = tuple(item.source for item in (*payload.scripts.values(), *agent) if item.source is not None)
    try:
        found = look(root, files)
    except InfrastructureError as error:
        note = f"version control cannot be asked, so files that it does not know are packed unseen ({error})"
        return replace(payload, notes=(*payload.notes, note))
    if found is None:
        return payload
    notes = list(payload.notes)
    if found.unknown:
        notes.append(f"packed, and unknown to version control: {_some(found.unknown)}")
    if found.dirty:
        notes.append(f"differs from commit {found.commit[:12]}: {_some(found.dirty)}")
    return replace(payload, notes=tuple(notes), checkout=found)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
