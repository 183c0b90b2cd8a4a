"""The version gate: whether the server still talks to a router."""

from __future__ import annotations

import re

from harness.kvmagent.patch import Versions

# What the server demands of a template when no release has raised it.
MINIMUM_TEMPLATE = "4.10.0"


def template_number(release_line: str) -> tuple[int, ...]:
    """Return the version in a template's release line, the third word; empty when there is none."""
    words = release_line.split()
    match = re.match(r"\d+(\.\d+)*", words[2]) if len(words) > 2 else None
    return numbers_of(match[0]) if match else ()


def numbers_of(version: str) -> tuple[int, ...]:
    """Return the numbers of a version such as ``4.10.0``."""
    return tuple(int(part) for part in version.split("."))


def four_numbers(version: str) -> str:
    """Return a version with four numbers, as servers and agents write it: ``4.22.0.0`` of ``4.22``."""
    parts = version.split(".") if version else []
    return ".".join([*parts, *["0"] * (4 - len(parts))]) if parts else ""


def refusal(versions: Versions, signature: str, minimum: str = MINIMUM_TEMPLATE) -> str:
    """Return why the server would send no command to a router any more, or an empty string.

    A router is supported when its template is new enough, or when its scripts are the server's own.
    """
    if template_number(versions.template) >= numbers_of(minimum) or versions.scripts.strip() == signature:
        return ""
    return (
        f"Router requires upgrade: template {versions.template!r} is older than {minimum}, and its scripts are "
        f"{versions.scripts[:12] or 'unknown'}…, not {signature[:12]}…"
    )
