"""The differences from an earlier run: scenarios and checks that fail only now, that are mended, that are gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.report.rows import RunReport, ScenarioRow

# A gap that is longer than before by less than this, in milliseconds, or by less than half, is the same gap.
_GAP_FLOOR_MS, _GAP_SHARE = 200.0, 0.5


@dataclass(frozen=True)
class Comparison:
    """A run against an earlier one; scenarios are named by id.

    Attributes:
        earlier: the earlier run's name.
        news: what is new in a scenario, a line each; scenarios without news are not in it.
        broken: scenarios that passed then and do not now.
        mended: scenarios that did not pass then and do now.
        still: scenarios that passed neither time.
        added: scenarios that only this run has.
        gone: scenarios that only the earlier run has.
    """

    earlier: str
    news: Mapping[str, tuple[str, ...]]
    broken: tuple[str, ...]
    mended: tuple[str, ...]
    still: tuple[str, ...]
    added: tuple[str, ...]
    gone: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line for people."""
        counts = {
            "broken": self.broken, "mended": self.mended, "still failing": self.still, "added": self.added,
            "gone": self.gone,
        }  # fmt: skip
        told = ", ".join(f"{len(rows)} {word}" for word, rows in counts.items() if rows)
        return f"against {self.earlier}: {told or 'every scenario ended as it did then'}"


def compare(report: RunReport, earlier: RunReport) -> Comparison:
    """Return what a run has that an earlier one did not have."""
    then = {row.id: row for row in earlier.scenarios}
    now = {row.id: row for row in report.scenarios}
    both = [(then[name], row) for name, row in now.items() if name in then]
    news = {row.id: tuple(_news(before, row)) for before, row in both}
    return Comparison(
        earlier=earlier.name,
        news={name: lines for name, lines in news.items() if lines},
        broken=tuple(row.id for before, row in both if not _bad(before) and _bad(row)),
        mended=tuple(row.id for before, row in both if _bad(before) and row.verdict == "passed"),
        still=tuple(row.id for before, row in both if _bad(before) and _bad(row)),
        added=tuple(name for name in now if name not in then),
        gone=tuple(name for name in then if name not in now),
    )


def _bad(row: ScenarioRow) -> bool:
    return row.verdict in {"failed", "error"}


def _news(before: ScenarioRow, row: ScenarioRow) -> list[str]:
    """Return what is new in a scenario, a line each."""
    lines = []
    if before.verdict != row.verdict:
        lines.append(f"{row.verdict} now, {before.verdict} then")
    then = {(check.name, check.occasion) for check in before.failures}
    lines += [
        f"new: {check.name}{f' ({check.occasion})' if check.occasion else ''}: {check.reason}"
        for check in row.failures
        if (check.name, check.occasion) not in then
    ]
    held = {(check.name, check.occasion) for check in row.held}
    lines += [f"mended: {name}{f' ({when})' if when else ''}" for name, when in sorted(then & held)]
    if before.template != row.template:
        lines.append(f"template {row.template or 'unknown'} now, {before.template or 'unknown'} then")
    return lines + _gap_news(before, row)


def _gap_news(before: ScenarioRow, row: ScenarioRow) -> list[str]:
    old, new = before.longest_gap_ms, row.longest_gap_ms
    if old is None or new is None or new - old < max(_GAP_FLOOR_MS, old * _GAP_SHARE):
        return []
    return [f"longest gap {new:.0f} ms now, {old:.0f} ms then"]
