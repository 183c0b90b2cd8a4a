"""Records of what a run tested, with which tool and where: they make its report a proof."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from bundle import __version__, layout, programs
from bundle.archive.digest import file_digest
from bundle.errors import CheckFailed, InfrastructureError
from bundle.seal import manifest
from harness.host.hypervisor import Hypervisor


def bundle_facts(folder: Path) -> dict[str, Any]:
    """Return what a bundle is: SHA-256 of its files, and what its manifest says; empty words where it has none.

    ``script`` is ``rendered`` for our patch script and ``foreign`` for another one.
    """
    names = (*layout.PAYLOAD, layout.MANIFEST)
    digests = {name: file_digest(folder / name, "sha256") for name in names if (folder / name).is_file()}
    facts = {
        "files": digests,
        "content_digest": "",
        "origin": "no manifest",
        "version": "",
        "release": "",
        "signed": (folder / layout.MANIFEST_SIGNATURE).is_file(),
        "script": "",
    }
    try:
        stated = manifest.load(folder / layout.MANIFEST)
    except (CheckFailed, OSError):
        return facts
    made = stated.facts
    return facts | {
        "content_digest": stated.content_digest,
        "origin": made.origin,
        "version": made.version,
        "release": made.release,
        "script": made.script,
    }


def tool_facts() -> dict[str, str]:
    """Return version and commit of this tool; no commit where it does not run from a checkout."""
    root = Path(__file__).parents[2]
    commit = ""
    if (root / ".git").exists():
        try:
            command = [
                "git",
                "-C",
                str(root),
                "describe",
                "--always",
                "--dirty",
                "--abbrev=40",
                "--exclude=*",
            ]
            commit = programs.run(command, check=False, deadline=10).stdout.strip()
        except InfrastructureError:
            commit = ""
    return {"version": __version__, "commit": commit}


def host_facts(host: Hypervisor, accelerator: str) -> dict[str, str]:
    """Return what the machines ran on."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "libvirt": host.uri,
        "qemu": _dotted(host.version()),
        "accelerator": accelerator,
    }


def _dotted(number: str) -> str:
    """Return libvirt's number of a version, a million for each major one, as people write it."""
    whole = int(number)
    return f"{whole // 1_000_000}.{whole // 1_000 % 1_000}.{whole % 1_000}"
