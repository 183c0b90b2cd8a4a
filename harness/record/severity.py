"""Severity of a finding: what a person has to read first when several checks fail at once."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Severity: TypeAlias = Literal["outage", "loss", "security", "answer", "files", "words"]
# Users cut off, data lost, a way in, a wrong answer, files that differ, and last what only says something.
ORDER: tuple[Severity, ...] = get_args(Severity)
# By a check's name, else by its subject, the part before the dot.
_OF: dict[str, Severity] = {
    "request": "outage",
    "traffic": "outage",
    "services": "outage",
    "rules": "outage",
    "ports": "outage",
    "flows": "outage",
    "kernel": "outage",
    "units": "outage",
    "files.live": "outage",
    "identity": "loss",
    "files.secrets": "security",
    "ports.none-new": "security",
    "sshd": "security",
    "sockets": "security",
    "processes": "security",
    "files.setuid": "security",
    "files.byte-code": "security",
    "disk.boot-code": "outage",
    "processes.none-gone": "outage",
    "processes.running": "outage",
    "answer": "answer",
    "version": "answer",
    "observed": "answer",
    "observed.answers": "outage",
    "files": "files",
    "disk": "files",
    "processes.on-disk": "files",
    "kernel.modules": "files",
    "console": "words",
    "journal": "words",
}


def of(check: str) -> Severity:
    """Return how grave it is when a check fails; one that is a scenario's own is about the answer."""
    return _OF.get(check) or _OF.get(check.partition(".")[0], "answer")


def rank(check: str) -> int:
    """Return the place of a failed check among others: the gravest has 0."""
    return ORDER.index(of(check))


def gravest_first(failures: list[str]) -> list[str]:
    """Return lines that begin with the name of a check and a colon, the gravest first."""
    return sorted(failures, key=lambda line: rank(line.partition(":")[0]))
