"""Connections that the kernel tracks: TCP ones as a set, without their ages and counters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.guest.collect import Section, of_program

_LIST = "/proc/net/nf_conntrack"
_LINE = re.compile(
    r"\btcp +6 +\d+ +(?P<state>[A-Z_0-9]+) +src=(?P<source>\S+) dst=(?P<target>\S+) sport=(?P<sport>\d+) "
    r"dport=(?P<dport>\d+).*? src=(?P<replier>\S+) dst=\S+ sport="
)


@dataclass(frozen=True, order=True)
class TrackedConnection:
    """A TCP connection.

    Attributes:
        source: address of who opened it.
        sport: and its port.
        target: address that was asked for.
        dport: and its port.
        replier: address of who answers, behind all translation.
    """

    source: str
    sport: str
    target: str
    dport: str
    replier: str

    def __str__(self) -> str:
        """Return it in words."""
        behind = "" if self.replier == self.target else f" ({self.replier})"
        return f"{self.source}:{self.sport} to {self.target}:{self.dport}{behind}"


def commands() -> dict[str, str]:
    """Return the commands that :func:`parse` reads."""
    by_program = of_program("conntrack", "conntrack -L -o extended")
    return {"flows": f"if [ -e {_LIST} ]; then cat {_LIST}; exit; fi; {by_program}"}


def parse(sections: Mapping[str, Section]) -> Mapping[TrackedConnection, str] | None:
    """Return the state of each tracked connection; None where the VM keeps no list, or shows none."""
    section = sections.get("flows")
    if section is None or section.status != 0:
        return None
    found = {}
    for line in section.text.splitlines():
        if row := _LINE.search(line):
            known = TrackedConnection(
                row["source"], row["sport"], row["target"], row["dport"], row["replier"]
            )
            found[known] = row["state"]
    return found
