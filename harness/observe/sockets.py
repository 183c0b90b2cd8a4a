"""Listening sockets and who holds them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.guest.collect import Section, of_paths

_EPHEMERAL = 32768
_EVERYWHERE = ("0.0.0.0%", "[::]%", "*%")
# The flag of a UNIX socket that accepts connections.
_ACCEPTS = 0x10000
# What services append to a socket's path: the number of their process (haproxy renames it, apache2 does not).
_BY_NUMBER = re.compile(r"\.\d+(\.(tmp|bak))?$")


@dataclass(frozen=True)
class Listener:
    """A socket that waits for clients. ``address`` is as ``ss`` prints it, without the interface."""

    protocol: str
    address: str
    port: int
    programs: tuple[str, ...]
    pids: tuple[int, ...]

    @property
    def is_lasting(self) -> bool:
        """True if the port is one that a service chooses; the kernel hands out the others anew each time."""
        return self.port < _EPHEMERAL

    @property
    def where(self) -> str:
        """Protocol, address and port for people."""
        return f"{self.protocol} {self.address}:{self.port}"

    def __str__(self) -> str:
        return f"{self.where} ({', '.join(self.programs) or 'unknown program'})"


def commands() -> dict[str, str]:
    """Return the commands that :func:`parse` and :func:`parse_others` read.

    ``ss`` would load a kernel module for each further kind; the kernel's own tables do without.
    """
    return {
        "sockets": "ss -ltunp",
        "sockets.unix": "cat /proc/net/unix",
        "sockets.raw": of_paths(("/proc/net/raw", "/proc/net/raw6"), 'cat -- "$@"'),
        "sockets.packet": "cat /proc/net/packet",
    }


def parse_others(sections: Mapping[str, Section]) -> frozenset[str] | None:
    """Return in words the sockets of other kinds that wait for somebody; None when the guest could not say."""
    if any(sections[f"sockets.{kind}"].status for kind in ("unix", "packet")):
        return None
    found = set()
    for line in sections["sockets.unix"].text.splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and int(fields[3], 16) & _ACCEPTS:
            found.add(f"UNIX socket {_BY_NUMBER.sub('', fields[7])}")
    for line in sections["sockets.raw"].text.splitlines():
        fields = line.split()
        if fields and fields[0].endswith(":"):
            found.add(f"raw socket of protocol {int(fields[1].rpartition(':')[2], 16)}")
    for line in sections["sockets.packet"].text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 4:
            found.add(f"packet socket for protocol {fields[3]} on interface {fields[4]}")
    return frozenset(found)


def parse(sections: Mapping[str, Section]) -> tuple[Listener, ...]:
    """Turn what ``ss -ltunp`` prints into listeners, sorted; the head line and odd lines are skipped."""
    found = []
    for line in sections["sockets"].text.splitlines():
        fields = line.split(None, 6)
        if len(fields) < 6 or fields[0] not in {"tcp", "udp"}:
            continue
        address, _, port = fields[4].rpartition(":")
        if not port.isdigit():
            continue
        users = fields[6] if len(fields) > 6 else ""
        found.append(
            Listener(
                protocol=fields[0],
                # On every address, the interface is all that bounds it.
                address=address if address.startswith(_EVERYWHERE) else address.partition("%")[0],
                port=int(port),
                programs=tuple(sorted(set(re.findall(r'\("([^"]*)",pid=', users)))),
                pids=tuple(sorted({int(pid) for pid in re.findall(r",pid=(\d+)", users)})),
            )
        )
    return tuple(sorted(found, key=lambda row: (row.protocol, row.port, row.address, row.pids)))
