"""Readers of shipped files on a VM, and what has to happen before the new content counts."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files

from bundle.archive.members import Archive
from bundle.catalogue import Catalogue
from bundle.services import UNITS

AGENT_SERVICE = "cloud"
_PACKAGES = "packages/"


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes:
        name: a word of ``enabled_svcs``, or who else reads it.
        when: what has to happen before the new content counts; empty for a service that the patch script renews.
        types: the VM types that it is about.
        service: whether ``name`` is a word of ``enabled_svcs``.
    """

    name: str
    when: str
    types: tuple[str, ...]
    service: bool = False


@dataclass(frozen=True)
class _Row:
    paths: tuple[str, ...]
    reader: str
    when: str
    types: tuple[str, ...] | None


@cache
def _rows() -> tuple[_Row, ...]:
    text = files("bundle.inspect").joinpath("readers.toml").read_text(encoding="utf-8")
    return tuple(
        _Row(
            tuple(row["paths"]),
            row["reader"],
            row.get("when", ""),
            tuple(row["types"]) if "types" in row else None,
        )
        for row in tomllib.loads(text)["reader"]
    )


def types_of(service: str, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the VM types that have a word in ``enabled_svcs``."""
    return tuple(
        name for name in catalogue.types if any(service in row.enabled for row in catalogue.services_of(name))
    )


def unit_of(path: str) -> str:
    """Return the service that a unit file or a drop-in belongs to; empty for any other file."""
    if not path.startswith(UNITS):
        return ""
    name, ending, _ = path.removeprefix(UNITS).partition(".service")
    return name if ending and "/" not in name else ""


def reader_of(archive: Archive, path: str, catalogue: Catalogue) -> Reader | None:
    """Return who reads a member; None when nobody is known."""
    if archive == "agent.zip":
        if path.startswith(_PACKAGES):
            return Reader("the patch script, which installs packages", "at once", tuple(catalogue.types))
        return Reader(AGENT_SERVICE, "", types_of(AGENT_SERVICE, catalogue), service=True)
    for row in _rows():
        if any(fnmatchcase(path, pattern) for pattern in row.paths):
            service = not row.when
            types = (
                row.types
                if row.types is not None
                else types_of(row.reader, catalogue)
                if service
                else tuple(catalogue.types)
            )
            return Reader(row.reader, row.when, types, service)
    return _service_of(path, catalogue)


def _service_of(path: str, catalogue: Catalogue) -> Reader | None:
    """Return the service that reads a path, as its row of the catalogue says."""
    for row in catalogue.service_rows.values():
        if any(fnmatchcase(path, pattern) for pattern in row.reads):
            if row.starts:
                return Reader(row.name, "its next start", row.types)
            return Reader(row.name, "", types_of(row.name, catalogue), service=True)
    return None
