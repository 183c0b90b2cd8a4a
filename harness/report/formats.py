"""Formats: the files that a run's report is written as. A module of this room registers its own, and is found here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from harness.report.rows import RunReport

Renderer: TypeAlias = Callable[[RunReport], str]


@dataclass(frozen=True)
class ReportFormat:
    """A format: the name of its file in the run's folder, and what renders it."""

    file: str
    render: Renderer


_REGISTERED: list[ReportFormat] = []


def report_format(file: str) -> Callable[[Renderer], Renderer]:
    """Register a function as the renderer of a file.

    Raises:
        ValueError: another format has that file.
    """

    def register(render: Renderer) -> Renderer:
        if any(known.file == file for known in _REGISTERED):
            raise ValueError(f"two report formats write {file!r}")
        _REGISTERED.append(ReportFormat(file, render))
        return render

    return register


@cache
def formats() -> tuple[ReportFormat, ...]:
    """Return every format of this room, by the names of their files."""
    room = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(room).__path__, f"{room}."):
        importlib.import_module(module.name)
    return tuple(sorted(_REGISTERED, key=lambda known: known.file))
