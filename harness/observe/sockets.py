"""Listening sockets and who holds them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.guest.collect import Section

_EPHEMERAL = 32768


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
        """Whether the port is one that a service chooses; the kernel hands out the others anew each time."""
        return self.port < _EPHEMERAL

    @property
    def where(self) -> str:
        """Protocol, address and port for people."""
        return f"{self.protocol} {self.address}:{self.port}"

    def __str__(self) -> str:
        return f"{self.where} ({', '.join(self.programs) or 'unknown program'})"


def commands() -> dict[str, str]:
    """Return the commands that :func:`parse` reads."""
    return {"sockets": "ss -ltunp"}


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
                address=address.partition("%")[0],
                port=int(port),
                programs=tuple(sorted(set(re.findall(r'\("([^"]*)",pid=', users)))),
                pids=tuple(sorted({int(pid) for pid in re.findall(r",pid=(\d+)", users)})),
            )
        )
    return tuple(sorted(found, key=lambda row: (row.protocol, row.port, row.address, row.pids)))
