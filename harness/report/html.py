"""The browser's view: one page that needs nothing else; a guest's output is never more than text in it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from jinja2 import BaseLoader, Environment, StrictUndefined

from harness.report.document import proof
from harness.report.formats import report_format
from harness.report.rows import ProbeRow, RunReport, ScenarioRow
from harness.report.table import gap_text

PAGE = "report.html"
_WIDTH = 720.0


@dataclass(frozen=True)
class Bar:
    """A rectangle of the drawing, in its own units."""

    x: float
    width: float
    label: str


@dataclass(frozen=True)
class Lane:
    """One line of the drawing: a probe with its gaps, or the steps."""

    label: str
    bars: tuple[Bar, ...]
    kind: str


@report_format(PAGE)
def render_html(report: RunReport) -> str:
    """Return the page of a run."""
    environment = Environment(
        loader=BaseLoader(), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["gap"] = gap_text
    source = (files("harness.report") / "report.html.j2").read_text(encoding="utf-8")
    lanes = {scenario.id: timeline(scenario) for scenario in report.scenarios}
    return environment.from_string(source).render(
        report=report, lanes=lanes, width=_WIDTH, proof=proof(report)
    )


def timeline(scenario: ScenarioRow) -> tuple[Lane, ...]:
    """Return the drawing of a scenario: its steps and the gaps of its probes, on one clock.

    The drawing spans the time during which the probes ran; without probes there is none.
    """
    if not scenario.probes:
        return ()
    start = min(probe.started for probe in scenario.probes)
    span = max(max(probe.ended for probe in scenario.probes) - start, 0.001)

    def bar(begin: float, end: float, label: str) -> Bar:
        left, right = (min(max((t - start) / span, 0.0), 1.0) * _WIDTH for t in (begin, end))
        return Bar(round(left, 2), round(max(right - left, 1.0), 2), label)

    def gaps(probe: ProbeRow) -> tuple[Bar, ...]:
        return tuple(bar(a, b, f"{(b - a) * 1000:.0f} ms from {a:.3f} s") for a, b in probe.gaps)

    steps = tuple(
        bar(step.t, step.t + step.seconds, f"{step.title}: {step.seconds:.3f} s")
        for step in scenario.steps
        if step.seconds is not None and step.t + step.seconds >= start and step.t <= start + span
    )
    said = tuple(
        bar(t, t, f"script: {line}")
        for patch in scenario.patches
        for t, line in patch.said
        if start <= t <= start + span
    )
    return (
        Lane("steps", steps, "step"),
        *((Lane("script's log", said, "said"),) if said else ()),
        *(Lane(probe.name, gaps(probe), "gap") for probe in scenario.probes),
    )
