"""Permission bits from rules: of path and content, never of the checkout.

``careful`` is what a packager would set. ``upstream`` is what CloudStack's own build sets: everything in
cloud-scripts.tgz 0755 except names that begin with ``log``, files of agent.zip 0555 except jars and packages,
its folders 0755.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Literal

from bundle.archive.members import Archive, MemberKind

ModeRule = Literal["careful", "upstream"]
RULES: tuple[ModeRule, ...] = ("careful", "upstream")

PROGRAM, DATA, SECRET, FOLDER, PRIVATE_FOLDER = 0o755, 0o644, 0o600, 0o755, 0o700

# What only root may read: private keys, key stores, and files that hold pass phrases.
SECRETS = (
    "etc/ipsec.secrets",
    "etc/ppp/*-secrets",
    "etc/ssh/ssh_host_*_key",
    "root/.ssh/*",
    "conf/agent.properties",
    "*.key",
    "*.keystore",
    "*.jks",
    "*.p12",
    "*.pfx",
)
# Read by systemd, sourced by shells or parsed by daemons: configuration, also when it starts with "#!".
_CONFIGURATION = (
    "etc/systemd/*",
    "etc/profile.d/*",
    "etc/logrotate.d/*",
    "etc/apache2/*",
    "usr/lib/systemd/*",
)
# Run by name by cron, by boot, or by the management server.
_PROGRAMS = (
    "etc/cron.hourly/*",
    "etc/cron.daily/*",
    "etc/cron.weekly/*",
    "etc/init.d/*",
    "etc/network/if-*.d/*",
    "*.sh",
)
_PRIVATE_FOLDERS = ("root", "root/.ssh", "etc/ssl/private")


def is_secret(path: str) -> bool:
    """Say whether a member of this path holds a secret."""
    return any(fnmatchcase(path, pattern) for pattern in SECRETS)


def _careful(path: str, kind: MemberKind, head: bytes) -> int:
    if kind == "dir":
        return PRIVATE_FOLDER if path in _PRIVATE_FOLDERS else FOLDER
    if is_secret(path):
        return SECRET
    if any(fnmatchcase(path, pattern) for pattern in _CONFIGURATION):
        return DATA
    runs = head.startswith((b"#!", b"\x7fELF")) or any(fnmatchcase(path, pattern) for pattern in _PROGRAMS)
    return PROGRAM if runs else DATA


def _upstream_scripts(path: str, kind: MemberKind) -> int:
    pure = PurePosixPath(path)
    logs = pure.name.startswith("log") or "logrotate.d" in pure.parts[:-1]
    return DATA if kind == "file" and logs else PROGRAM


def _upstream_agent(path: str, kind: MemberKind) -> int:
    # Maven's assembly makes the folders before it copies files into them, with its own mode.
    if kind == "dir":
        return FOLDER
    by_default = path.startswith("packages/") or ("/" not in path and path.endswith(".jar"))
    return DATA if by_default else 0o555


def mode_of(rule: ModeRule, archive: Archive, path: str, kind: MemberKind, head: bytes = b"") -> int:
    """Return the permission bits of one member.

    Args:
        rule: ``careful`` or ``upstream``.
        archive: the archive that the member goes into.
        path: place in the archive.
        kind: ``file`` or ``dir``.
        head: the first bytes of the content.
    """
    if rule == "careful":
        return _careful(path, kind, head)
    return _upstream_scripts(path, kind) if archive == "cloud-scripts.tgz" else _upstream_agent(path, kind)
