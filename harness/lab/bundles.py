"""Bundles that a run builds itself."""

from __future__ import annotations

from pathlib import Path


def build_bundle(
    release: str, target: Path, *, source: Path | None = None, script: Path | None = None
) -> Path:
    """Build a bundle of the reference payload, or of a copy of it."""
    from bundle.build import BuildOptions, build

    return build(BuildOptions(output=target, release=release, source=source, script=script)).folder
