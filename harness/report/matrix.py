"""The cells of a run as a matrix: releases down, VM types across, and how many scenarios of each ended how."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from harness.report.rows import RunReport, Verdict


@dataclass(frozen=True)
class MatrixCell:
    """One cell: a VM type from a release.

    Attributes:
        vm_type: the column's.
        release: the row's.
        counts: how many scenarios ended how.
        worst: what the cell as a whole is.
    """

    vm_type: str
    release: str
    counts: tuple[tuple[Verdict, int], ...]
    worst: Verdict


@dataclass(frozen=True)
class Matrix:
    """All cells; one that no scenario has is None."""

    types: tuple[str, ...]
    rows: tuple[tuple[str, tuple[MatrixCell | None, ...]], ...]


_ORDER: tuple[Verdict, ...] = ("error", "failed", "passed", "skipped")


def matrix(report: RunReport) -> Matrix:
    """Return the matrix of a run, in the order in which types and releases came."""
    named = [row for row in report.scenarios if row.vm_type or row.from_release]
    types = tuple(dict.fromkeys(row.vm_type for row in named))
    releases = tuple(dict.fromkeys(row.from_release for row in named))
    counted: dict[tuple[str, str], Counter[Verdict]] = {}
    for row in named:
        counted.setdefault((row.from_release, row.vm_type), Counter())[row.verdict or "error"] += 1

    def cell(release: str, vm_type: str) -> MatrixCell | None:
        counts = counted.get((release, vm_type))
        if counts is None:
            return None
        there = [(verdict, counts[verdict]) for verdict in _ORDER if counts[verdict]]
        return MatrixCell(vm_type, release, tuple(there), there[0][0])

    return Matrix(
        types, tuple((release, tuple(cell(release, name) for name in types)) for release in releases)
    )
