"""The logs of scenarios that did not pass, as pages whose every line has an address.

A browser cannot open a text file at a line. So each such log gets a page beside it, ``livepatch.log.html``, in which
line 33 is ``#L33``; and what the report quotes of a log is a link to where it stands there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from harness.report.event_fields import MAX_LINE
from harness.report.rows import RunReport, ScenarioRow

# A log is as long as its guest likes: of each the last lines, and of a run the logs of so many scenarios.
MOST_LINES = 20_000
MOST_SCENARIOS = 200


@dataclass(frozen=True)
class LogPage:
    """One log as a page.

    Attributes:
        name: of the log, relative to the run's folder.
        first: number of the first line that is shown.
        lines: that are shown.
    """

    name: str
    first: int
    lines: tuple[str, ...]

    @property
    def address(self) -> str:
        """The page's address, relative to the report."""
        return quote(f"{self.name}.html")


@dataclass(frozen=True)
class LogPages:
    """The pages of a scenario's logs, and where in them a line stands: the page's place and the line's number each."""

    pages: tuple[LogPage, ...] = ()
    _stands: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)

    def address_of(self, log: str) -> str:
        """Return the address of a log's page, or nothing where it has none."""
        return next((page.address for page in self.pages if page.name == log), "")

    def places(self, lines: Sequence[str]) -> list[str]:
        """Return where lines stand in the logs, an address each; nothing for one that stands nowhere.

        A line that the logs have several times, as after two patches, is the one near a line that they have once. A
        single word is no line to be found.
        """
        found = [self._stands.get(line.strip(), ()) if len(line.split()) > 1 else () for line in lines]
        anchor = next((places[0] for places in found if len(places) == 1), None)
        return [self._address(places, anchor) for places in found]

    def _address(self, places: Sequence[tuple[int, int]], anchor: tuple[int, int] | None) -> str:
        if not places:
            return ""
        page, number = places[-1]
        if anchor is not None:
            page, number = min(places, key=lambda at: (at[0] != anchor[0], abs(at[1] - anchor[1])))
        return f"{self.pages[page].address}#L{number}"


def with_pages(report: RunReport) -> frozenset[str]:
    """Return the ids of the scenarios whose logs get pages."""
    bad = [row.id for row in report.scenarios if row.verdict in {"failed", "error"}]
    return frozenset(bad[:MOST_SCENARIOS])


def pages_of(row: ScenarioRow, folder: Path) -> LogPages:
    """Return the logs of a scenario as pages.

    Args:
        row: the scenario.
        folder: of the run, in which the logs lie; a log that is not there has no page.
    """
    pages = tuple(_read(row.logs, folder))
    stands: dict[str, list[tuple[int, int]]] = {}
    for place, page in enumerate(pages):
        for number, line in enumerate(page.lines, page.first):
            stands.setdefault(line.strip(), []).append((place, number))
    return LogPages(pages, stands)


def _read(logs: Sequence[str], folder: Path) -> Iterable[LogPage]:
    for name in logs:
        path = folder / name
        # A name stands in the event log, which may come from elsewhere.
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8", errors="backslashreplace").splitlines()
        shown = lines[-MOST_LINES:]
        if shown:
            yield LogPage(name, len(lines) - len(shown) + 1, tuple(line[:MAX_LINE] for line in shown))
