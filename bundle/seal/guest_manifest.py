"""The manifest that travels inside ``patch-sysvms.sh``: plain text that a shell can read line by line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bundle.archive.members import Archive, Member

LETTERS: dict[Archive, str] = {"agent.zip": "A", "cloud-scripts.tgz": "S"}


@dataclass(frozen=True)
class Packed:
    """One finished archive: its size in bytes, its digests by algorithm, and its members."""

    size: int
    digests: dict[str, str]
    members: tuple[Member, ...]


def _line(letter: str, member: Member) -> str:
    if member.kind == "dir":
        return f"dir\t{letter}\t{member.mode:04o}\t-\t-\t{member.path}"
    return f"file\t{letter}\t{member.mode:04o}\t{member.size}\t{member.sha256}\t{member.path}"


def render_guest_manifest(
    *,
    version: str,
    architecture: str,
    minimum_template: str,
    digest: str,
    archives: dict[Archive, Packed],
    build: int = 0,
    key: str = "",
) -> str:
    """Return the text: a header, one line an archive, one line a member.

    Args:
        version: full release, for instance ``4.22.0.0``.
        architecture: ``all``, ``amd64`` or ``arm64``.
        minimum_template: the oldest template that may be patched.
        digest: algorithm of the signature file, ``md5`` or ``sha512``.
        archives: the two archives.
        build: number of the build, which grows; 0 leaves it out.
        key: name of the key that signs it; empty leaves it out.
    """
    lines = [
        "format\t1",
        f"release\t{version}",
        f"architecture\t{architecture}",
        f"minimum_template\t{minimum_template}",
        f"digest\t{digest}",
        *([f"build\t{build}"] if build else []),
        *([f"key\t{key}"] if key else []),
    ]
    for name in sorted(archives, reverse=True, key=lambda name: LETTERS[name]):
        packed = archives[name]
        lines.append(f"archive\t{name}\t{packed.size}\t{packed.digests['sha512']}")
    lines += _member_lines(archives)
    return "\n".join(lines) + "\n"


def _member_lines(archives: dict[Archive, Packed]) -> Iterable[str]:
    for name in sorted(archives, key=lambda name: LETTERS[name]):
        for member in sorted(archives[name].members, key=lambda member: member.path):
            yield _line(LETTERS[name], member)
