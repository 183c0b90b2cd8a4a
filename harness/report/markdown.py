"""The view for a job's summary: Markdown as CI systems show it; a guest's text is only ever text in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

from bundle.sink import escape, one_line
from harness.report.against import Comparison
from harness.report.cause import first_cause
from harness.report.document import tested
from harness.report.matrix import MatrixCell, matrix
from harness.report.rows import RunReport, ScenarioRow, Verdict
from harness.report.table import counts_text, gap_text

# What CI systems take of a summary is limited, and what a person reads of it more so.
_MOST = 50
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|~<>&@:])")
_MARK = {"passed": "✅", "failed": "❌", "error": "❌", "skipped": "⚪"}


def render_markdown(report: RunReport, against: Comparison | None = None) -> str:
    """Return the summary of a run: verdict, first cause, what was tested, matrix, and what did not pass."""
    parts = [f"## {_MARK[report.verdict]} {text(report.name)}: {report.verdict}", _counts(report)]
    parts += _cause(report)
    if against is not None:
        parts.append(text(against.summary))
    parts += [_table(("what was tested", ""), [[text(name), text(value)] for name, value in tested(report)])]
    parts += _cells(report)
    bad = [row for row in report.scenarios if row.verdict in {"failed", "error"}]
    if bad:
        parts.append(_table(("scenario", "verdict", "longest gap", "checks", "reason"), _rows(bad[:_MOST])))
    if len(bad) > _MOST:
        parts.append(f"… and {len(bad) - _MOST} more that did not pass: `report.html` has them.")
    return "\n\n".join(filter(None, parts)) + "\n"


def text(value: str) -> str:
    """Return text that no reader of Markdown takes for markup, on one line."""
    return _MARKUP.sub(r"\\\1", one_line(value)).strip()


def _counts(report: RunReport) -> str:
    counts = [f"{report.count(word)} {word}" for word in get_args(Verdict) if report.count(word)]
    many = len(report.scenarios)
    return f"{many} scenario{'' if many == 1 else 's'}: {', '.join(counts) or 'none'}; {report.seconds:.0f} s"


def _cause(report: RunReport) -> list[str]:
    cause = first_cause(report)
    if cause is None:
        return [text(report.reason)]
    when = f" ({text(cause.occasion)})" if cause.occasion else ""
    told = [f"**First cause: {text(cause.check or 'the run')}**{when}: {text(cause.reason)}"]
    if cause.scenario:
        also = f"; {cause.also} more failed the same way" if cause.also else ""
        told.append(f"in {text(cause.scenario)}{also}")
    return [*told, _fenced(cause.lines)] if cause.lines else told


def _fenced(lines: Sequence[str]) -> str:
    """Return lines as a block of code, behind a fence that none of them can close."""
    shown = [escape(line) for line in lines]
    longest = max((len(run) for line in shown for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *shown, fence])


def _cells(report: RunReport) -> list[str]:
    found = matrix(report)
    if not found.rows:
        return []
    rows = [[text(release), *map(_cell, cells)] for release, cells in found.rows]
    return [_table(("from", *map(text, found.types)), rows)]


def _cell(cell: MatrixCell | None) -> str:
    if cell is None:
        return ""
    return f"{_MARK[cell.worst]} {', '.join(f'{count} {verdict}' for verdict, count in cell.counts)}"


def _rows(rows: Sequence[ScenarioRow]) -> list[list[str]]:
    return [
        [
            text(row.id),
            row.verdict or "error",
            gap_text(row.longest_gap_ms),
            counts_text(row),
            text(row.reason),
        ]
        for row in rows
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
