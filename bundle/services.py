"""Services of system VMs as typed values: the tables ``[service.*]`` of ``systemvm/releases.toml``.

How a service is renewed, what it reads, and how it is asked about its configuration stand there and nowhere else: the
patch script is rendered from these rows, ``sysvm bundle diff`` and the checks read them, and so does a table of the
documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias, get_args

from bundle.errors import UsageError

Renewed: TypeAlias = Literal["reload", "restart"]
# How our script renews: by a reload where one suffices; by restarts; as the first, but only what reads a changed file.
Policy: TypeAlias = Literal["graceful", "always", "changed"]
Turn: TypeAlias = Literal["first", "last"]

_KEYS = {
    "turn", "renewed", "workers", "together", "check", "reads", "listens", "units", "starts", "types", "failover",
    "by_rules", "probes",
}  # fmt: skip
# Where units of the payload lie.
UNITS = "etc/systemd/system/"
# What the script can hold between single quotes.
_COMMAND = re.compile(r"[\w./ -]*")
_PATTERN = re.compile(r"[\w./*@-]+")


@dataclass(frozen=True)
class ServiceRow:
    """A service, by the word that ``enabled_svcs`` has for it.

    Attributes:
        name: the word, and the name of its unit without ``.service``.
        turn: whether it is renewed before services without a row, or after them; rows keep their order.
        renewed: by a reload where its master keeps the sockets open, or by a restart.
        workers: whether a reload starts new processes that take over.
        together: whether it may be renewed while other services are.
        check: the command that says aloud what is wrong with its configuration; empty where there is none.
        reads: patterns of paths in ``cloud-scripts.tgz``, and of the agent's folder.
        listens: ``tcp 80`` and the like, for people.
        units: further units that come with it.
        starts: who starts it, where ``enabled_svcs`` does not name it; empty where it does.
        types: the VM types that have it, where ``enabled_svcs`` does not say so.
        failover: whether renewing it hands the network to the other router of a redundant pair.
        by_rules: whether rules that are sent again start or renew it.
        probes: the first words of the names of the probes that it answers.
    """

    name: str
    turn: Turn
    renewed: Renewed
    workers: bool = False
    together: bool = False
    check: str = ""
    reads: tuple[str, ...] = ()
    listens: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    starts: str = ""
    types: tuple[str, ...] = ()
    failover: bool = False
    by_rules: bool = False
    probes: tuple[str, ...] = ()


def parse(rows: dict[str, dict[str, Any]]) -> dict[str, ServiceRow]:
    """Return the services of the catalogue's table ``service``, in its order.

    Raises:
        UsageError: a row lacks a key, has an unknown one, or a word that means nothing.
    """
    return {name: _parse(name, row) for name, row in rows.items()}


def _parse(name: str, row: dict[str, Any]) -> ServiceRow:
    where = f"service {name!r} of the catalogue"
    for key, words in (("turn", get_args(Turn)), ("renewed", get_args(Renewed))):
        if row.get(key) not in words:
            raise UsageError(f"{where}: {key} is {row.get(key)!r} (expected {' or '.join(words)})")
    if strange := row.keys() - _KEYS:
        raise UsageError(f"{where}: unknown key {min(strange)!r}")
    if not _COMMAND.fullmatch(row.get("check", "")):
        raise UsageError(f"{where}: check has characters that the script cannot hold: {row['check']!r}")
    if odd := [
        word for word in (*row.get("reads", ()), *row.get("units", ())) if not _PATTERN.fullmatch(word)
    ]:
        raise UsageError(f"{where}: {odd[0]!r} has characters that a list in the script cannot hold")
    if row.get("workers") and row["renewed"] != "reload":
        raise UsageError(f"{where}: only a reload starts new workers")
    return ServiceRow(
        name=name, turn=row["turn"], renewed=row["renewed"], workers=row.get("workers", False),
        together=row.get("together", False), check=row.get("check", ""), reads=tuple(row.get("reads", ())),
        listens=tuple(row.get("listens", ())), units=tuple(row.get("units", ())), starts=row.get("starts", ""),
        types=tuple(row.get("types", ())), failover=row.get("failover", False),
        by_rules=row.get("by_rules", False), probes=tuple(row.get("probes", ())),
    )  # fmt: skip


def sources(row: ServiceRow) -> tuple[str, ...]:
    """Return patterns of the paths, relative to ``/``, that hold what a service reads: its files and its units."""
    return row.reads + tuple(f"{UNITS}{unit}*" for unit in (f"{row.name}.service", *row.units))


def reads_any(rows: dict[str, ServiceRow], service: str, paths: Iterable[str]) -> bool:
    """Say whether a service reads one of these paths, relative to ``/``; of one without a row nobody knows: yes."""
    row = rows.get(service)
    return row is None or any(fnmatchcase(path, pattern) for path in paths for pattern in sources(row))


def reloaded(rows: dict[str, ServiceRow]) -> tuple[str, ...]:
    """Return the services that are renewed by a reload where that suffices."""
    return tuple(row.name for row in rows.values() if row.renewed == "reload")
