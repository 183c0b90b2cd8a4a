"""The data of the page, as JSON: an index that it reads at once, and parts that it reads when a row is opened.

A run of 1,680 scenarios makes a quarter of a million checks. Most texts are the same again and again, so the index
says each once and counts from there; scenarios with the same checks share their list; and what only an opened row
shows (lines, steps, drawings, logs) lies in parts of a few scenarios each, deflated.
"""

from __future__ import annotations

import base64
import itertools
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bundle.sink import escape
from harness.report.logpages import LogPages
from harness.report.rows import CheckRow, RunReport, ScenarioRow, StepRow, Verdict
from harness.report.timeline import Bar, Drawing, drawings

# What bars are about, each once, with its number.
_Kinds: TypeAlias = dict[tuple[str, str], int]
# Scenarios of one part: enough for texts to repeat, few enough to be read in a blink.
PART = 40
_ORDER: tuple[Verdict, ...] = ("error", "failed", "skipped", "passed")
_LETTERS: dict[Verdict, str] = {"passed": "p", "failed": "f", "error": "e", "skipped": "s"}
_KNOWN = "k"


@dataclass
class _Texts:
    """Texts, each once: a text's number is its place."""

    known: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        """Return the number of a text, with nothing in it that turns or hides writing."""
        return self.known.setdefault(escape(text), len(self.known))


@dataclass(frozen=True)
class PageData:
    """The page's data: the index, and the parts as texts that a script element can hold."""

    index: str
    parts: tuple[str, ...]


def in_order(report: RunReport) -> list[ScenarioRow]:
    """Return the scenarios as a person wants to see them: what failed first, each kind as it began."""
    return sorted(report.scenarios, key=lambda row: _ORDER.index(row.verdict or "error"))


def page_data(
    report: RunReport,
    pages: Callable[[ScenarioRow], LogPages],
    news: Mapping[str, Sequence[str]] | None = None,
) -> PageData:
    """Return the data of a run's page.

    Args:
        report: of the run.
        pages: returns those of a scenario's logs.
        news: what is new since an earlier run, by scenario.
    """
    rows = in_order(report)
    texts, sets = _Texts(), dict[tuple[tuple[int, int], ...], int]()
    scenarios = [_scenario(row, texts, sets, (news or {}).get(row.id, ())) for row in rows]
    common = ScenarioRow("", checks=report.common.checks, steps=report.common.steps)
    index = {
        "part": PART,
        "scenarios": scenarios,
        "common": _scenario(common, texts, sets, ()) if common.checks or common.steps else None,
        "sets": [list(itertools.chain.from_iterable(pairs)) for pairs in sets],
        "texts": list(texts.known),
    }
    every = [*rows, common]
    parts = [_part(every[place : place + PART], pages) for place in range(0, len(every), PART)]
    return PageData(_harmless(index), tuple(parts))


def _part(rows: Sequence[ScenarioRow], pages: Callable[[ScenarioRow], LogPages]) -> str:
    """Return what opened rows of a few scenarios show, deflated; ``kinds`` are the bars' texts and looks."""
    kinds: _Kinds = {}
    details = [_detail(row, pages(row), kinds) for row in rows]
    return _deflated({"kinds": list(kinds), "scenarios": details})


def _harmless(document: object) -> str:
    """Return JSON that no HTML parser takes for anything else: ASCII, without what opens or closes a tag."""
    plain = json.dumps(document, separators=(",", ":"))
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _deflated(document: object) -> str:
    return base64.b64encode(zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 9)).decode()


def _scenario(
    row: ScenarioRow, texts: _Texts, sets: dict[tuple[tuple[int, int], ...], int], news: Sequence[str]
) -> list[Any]:
    """Return a scenario's line of the index; ``page.js`` names the places."""
    number = texts.number
    names = tuple((number(check.name), number(check.occasion)) for check in row.checks)
    failed = set(row.failures)
    bad = [(place, check) for place, check in enumerate(row.checks) if check in failed]
    return [
        number(row.id),
        _LETTERS[row.verdict or "error"],
        number(row.vm_type),
        number(row.from_release),
        number(row.to_release),
        number(row.template),
        number(row.reason),
        None if row.seconds is None else round(row.seconds, 1),
        None if row.longest_gap_ms is None else round(row.longest_gap_ms, 1),
        row.rules,
        number(", ".join(row.services)),
        sets.setdefault(names, len(sets)),
        _verdicts(row.checks),
        [[place, number(check.reason)] for place, check in bad],
        [number(text) for text in news],
        number(row.title),
    ]


def _verdicts(checks: Sequence[CheckRow]) -> str:
    """Return the checks' verdicts in a row, such as ``12p1f``: how many times which."""
    groups = itertools.groupby(_KNOWN if check.known else _LETTERS[check.verdict] for check in checks)
    return "".join(f"{len(list(group))}{letter}" for letter, group in groups)


def _detail(row: ScenarioRow, pages: LogPages, kinds: _Kinds) -> dict[str, Any]:
    """Return what an opened row shows besides what the index has."""
    return {
        "lines": {
            str(place): _lines(check.details, pages)
            for place, check in enumerate(row.checks)
            if check.details
        },
        "why": {
            str(place): escape(f"{check.known}; {check.reason}" if check.known else check.reason)
            for place, check in enumerate(row.checks)
            if check.reason and (check.known or check.verdict in {"passed", "skipped"})
        },
        "steps": [
            _step(step) for step in row.steps
        ],
        "drawings": [_drawing(drawing, kinds) for drawing in drawings(row)],
        "patches": [
            [escape(p.occasion), p.success, round(p.seconds, 1), escape(p.details)]
            + ([_lines(p.log, pages)] if p.log and not p.success and row.verdict != "passed" else [])
            for p in row.patches
        ],
        "probes": [
            [
                escape(p.occasion), escape(p.name), p.sent, p.lost, round(p.longest_gap_ms), p.budget_ms,
                p.broken_streams, p.sure_gap_ms,
            ]
            for p in row.probes
        ],
        "retried": [escape(reason) for reason in row.retried],
        "logs": [[escape(name), pages.address_of(name)] for name in row.logs],
    }  # fmt: skip


def _lines(lines: Sequence[str], pages: LogPages) -> list[Any]:
    """Return lines of text; one that stands in a log is a pair of text and address."""
    pairs = zip(map(escape, lines), pages.places(lines), strict=True)
    return [[line, address] if address else line for line, address in pairs]


def _step(step: StepRow) -> list[Any]:
    seconds = None if step.seconds is None else round(step.seconds, 2)
    return [round(step.t, 1), escape(step.title), seconds, step.verdict or "", escape(step.reason)]


def _drawing(drawing: Drawing, kinds: _Kinds) -> list[Any]:
    lanes = [[escape(lane.label), _bars(lane.bars, kinds)] for lane in drawing.lanes]
    return [escape(drawing.occasion), round(drawing.start, 1), drawing.seconds, lanes]


def _bars(bars: Sequence[Bar], kinds: _Kinds) -> list[int]:
    """Return bars as numbers, three each: hundredths of a second since the bar before, how many long, which kind.

    A run has a hundred bars a scenario, most of them gaps of probes: as numbers in a row they deflate best.
    """
    found: list[int] = []
    before = 0
    for bar in bars:
        # A probe's whole time need not be exact.
        unit = 10 if bar.kind == "answers" else 1
        begin, end = (round(t * 100 / unit) * unit for t in (bar.begin, bar.end))
        found += [begin - before, end - begin, kinds.setdefault((escape(bar.label), bar.kind), len(kinds))]
        before = begin
    return found
