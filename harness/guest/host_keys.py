"""Host keys of guests that somebody else started: whoever answers must be who was meant, before it gets anything."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from bundle.errors import InfrastructureError, UsageError

_NAMED = re.compile(r"(?:(?P<name>[^=\s]+)=)?SHA256:(?P<digest>[A-Za-z0-9+/]{43})=?")
_SSH_PORT = 22


class HostKeyRefused(InfrastructureError):
    """A guest showed another host key than the one that is known, or none is known."""


def known_hosts_files() -> list[Path]:
    """Return the files in which OpenSSH looks for host keys."""
    return [Path.home() / ".ssh" / "known_hosts", Path("/etc/ssh/ssh_known_hosts")]


def fingerprint(key: paramiko.PKey) -> str:
    """Return the fingerprint of a key as OpenSSH prints it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


@dataclass
class HostKeyCheck:
    """A check of host keys: by fingerprints that a person gave, or by OpenSSH's files of known hosts.

    Attributes:
        named: fingerprints by the VM's name; under the empty name those that count for every VM.
        trust_first: take the first key of an unknown host, and no other one after it.
        known: the known hosts.
        revoked: keys that count no longer, in base64.
    """

    named: dict[str, set[str]] = field(default_factory=dict)
    trust_first: bool = False
    known: paramiko.HostKeys = field(default_factory=paramiko.HostKeys)
    revoked: frozenset[str] = frozenset()
    _first: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def algorithms(self, host: str, port: int, offered: Sequence[str]) -> list[str]:
        """Return the algorithms to ask for, those of a known key first: a host may have several keys."""
        there = set(self.known.lookup(_place(host, port)) or ())
        return sorted(offered, key=lambda name: _kind(name) not in there)

    def check(self, name: str, host: str, port: int, key: paramiko.PKey) -> None:
        """Compare a key that a host has shown.

        Args:
            name: the VM's name in messages and in ``--host-key``.
            host: where it answered.
            port: likewise.
            key: what it showed.

        Raises:
            HostKeyRefused: the key is another one, is revoked, or the host is not known.
        """
        shown, place = fingerprint(key), _place(host, port)
        if key.get_base64() in self.revoked:
            raise HostKeyRefused(f"{name}: the host key {shown} of {place} is revoked in the known hosts")
        wanted = self.named.get(name, set()) | self.named.get("", set())
        there = self.known.lookup(place)
        if wanted:
            if shown not in wanted:
                raise HostKeyRefused(
                    f"{name}: the host key of {place} is {shown}, not {' or '.join(sorted(wanted))}"
                )
        elif there:
            if not self.known.check(place, key):
                raise HostKeyRefused(
                    f"{name}: the host key {shown} of {place} is not the one that is known: somebody may be listening",
                    hint=f"if it has a new key, remove the old one: ssh-keygen -R '{place}'",
                )
        elif not self.trust_first:
            raise HostKeyRefused(
                f"{name}: the host key {shown} of {place} is not known",
                hint="compare it with the VM's own, then give --host-key, or take it unseen with --trust-first",
            )
        else:
            self._take_first(name, place, shown)

    def _take_first(self, name: str, place: str, shown: str) -> None:
        with self._lock:
            first = self._first.setdefault(place, shown)
        if first != shown:
            raise HostKeyRefused(f"{name}: the host key of {place} is {shown} now, and was {first} at first")


def read_check(
    host_keys: Iterable[str], *, trust_first: bool, names: Sequence[str], files: Iterable[Path] | None = None
) -> HostKeyCheck:
    """Return the check that a person asked for.

    Args:
        host_keys: ``[NAME=]SHA256:...`` of the VMs; without a name it counts for the only one.
        trust_first: see :class:`HostKeyCheck`.
        names: of the VMs.
        files: of known hosts; OpenSSH's own when None.

    Raises:
        UsageError: a fingerprint is none, names no VM, or names none while there are several.
    """
    named: dict[str, set[str]] = {}
    for text in host_keys:
        match = _NAMED.fullmatch(text)
        if match is None:
            raise UsageError(
                f"invalid --host-key {text!r} (expected [NAME=]SHA256:..., as ssh-keygen -lf prints it)"
            )
        name = match["name"] or ""
        if (name and name not in names) or (not name and len(names) > 1):
            raise UsageError(
                f"--host-key {text}: say of which VM, as NAME=SHA256:... (there is {', '.join(names)})"
            )
        named.setdefault(name, set()).add(f"SHA256:{match['digest']}")
    known, revoked = paramiko.HostKeys(), set()
    for file in known_hosts_files() if files is None else files:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(f"the known hosts in {file} cannot be read: {error.strerror}") from None
        for words in map(str.split, lines):
            if len(words) > 3 and words[0] == "@revoked":
                revoked.add(words[3])
            elif words and words[0][0] not in "@#":
                _take(known, words)
    return HostKeyCheck(named, trust_first, known, frozenset(revoked))


def _take(known: paramiko.HostKeys, words: list[str]) -> None:
    """Take a line of known hosts; as with OpenSSH, one that cannot be read is about no host."""
    with contextlib.suppress(paramiko.hostkeys.InvalidHostKey, paramiko.SSHException, ValueError):
        entry = paramiko.hostkeys.HostKeyEntry.from_line(" ".join(words[:3]))
        if entry is not None and entry.key is not None:
            for host in entry.hostnames:
                known.add(host, entry.key.get_name(), entry.key)


def _place(host: str, port: int) -> str:
    """Return how the known hosts name a place."""
    return host if port == _SSH_PORT else f"[{host}]:{port}"


def _kind(algorithm: str) -> str:
    """Return the kind of key that an algorithm signs with: two newer ones use the RSA key."""
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm
