"""The drawings of a scenario: one a patch, each with its own time axis, all that happened on one clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.report.rows import PatchRow, ProbeRow, ScenarioRow, StepRow


@dataclass(frozen=True)
class Bar:
    """A stretch of a lane, in seconds since the drawing's start: what happened, and what kind of thing that is."""

    begin: float
    end: float
    label: str
    kind: str


@dataclass(frozen=True)
class Lane:
    """One line of a drawing: steps, phases of the script, a service, a probe."""

    label: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Drawing:
    """The picture of one patch and what happened around it.

    Attributes:
        occasion: which patch of the scenario.
        start: seconds since the run's start.
        seconds: how long the axis is.
        lanes: from the harness's own steps down to the probes.
    """

    occasion: str
    start: float
    seconds: float
    lanes: tuple[Lane, ...]


@dataclass(frozen=True)
class _Window:
    """The part of a run's clock that a drawing shows."""

    start: float
    end: float

    def bar(self, begin: float, end: float, label: str, kind: str) -> Bar | None:
        """Return what can be seen of a stretch, or None when nothing of it lies within."""
        if end < self.start or begin > self.end:
            return None
        left, right = max(begin, self.start) - self.start, min(end, self.end) - self.start
        return Bar(round(left, 3), round(right, 3), label, kind)

    def lane(self, label: str, stretches: Iterable[tuple[float, float, str, str]]) -> Lane:
        """Return a lane of what can be seen of stretches: begin, end, label and kind each."""
        return Lane(label, tuple(bar for row in stretches if (bar := self.bar(*row)) is not None))


def drawings(scenario: ScenarioRow) -> tuple[Drawing, ...]:
    """Return one drawing for each patch of a scenario that was watched or that told its phases."""
    occasions = dict.fromkeys(
        [probe.occasion for probe in scenario.probes]
        + [patch.occasion for patch in scenario.patches if patch.phases]
    )
    return tuple(_drawing(scenario, occasion) for occasion in occasions)


def _drawing(scenario: ScenarioRow, occasion: str) -> Drawing:
    probes = [probe for probe in scenario.probes if probe.occasion == occasion]
    patches = [patch for patch in scenario.patches if patch.occasion == occasion]
    window = _window(probes, patches, scenario.steps)
    lanes = [
        window.lane("steps", _steps(scenario.steps)),
        *(window.lane("script", _phases(patch)) for patch in patches if patch.phases),
        *(lane for patch in patches for lane in _services(patch, window)),
        *(window.lane("script's log", _said(patch)) for patch in patches if patch.said),
        *(window.lane(probe.name, _answers(probe)) for probe in probes),
    ]
    return Drawing(
        occasion,
        round(window.start, 3),
        round(window.end - window.start, 3),
        tuple(lane for lane in lanes if lane.bars),
    )


def _window(probes: list[ProbeRow], patches: list[PatchRow], steps: Iterable[StepRow]) -> _Window:
    """Return the time from the first probe or phase to the end of the last, and of the steps before it was recorded."""
    spans = [span for patch in patches for span in patch.phases]
    start = min([probe.started for probe in probes] + [span.t for span in spans])
    recorded = max((patch.t for patch in patches), default=start)
    done = [step.t + step.seconds for step in steps if step.seconds is not None and step.t >= start]
    ends = [probe.ended for probe in probes] + [span.t + span.seconds for span in spans]
    ends += [end for end in done if end <= recorded]
    return _Window(start, max(*ends, start + 0.001))


def _steps(steps: Iterable[StepRow]) -> Iterable[tuple[float, float, str, str]]:
    for step in steps:
        if step.seconds is not None:
            kind = "rules" if "rules" in step.name else "step"
            yield step.t, step.t + step.seconds, step.name, kind


def _phases(patch: PatchRow) -> Iterable[tuple[float, float, str, str]]:
    for span in patch.phases:
        yield span.t, span.t + span.seconds, span.name, f"phase {span.name}"


def _services(patch: PatchRow, window: _Window) -> Iterable[Lane]:
    """Yield a lane for each service that the script did something to."""
    for name in dict.fromkeys(span.about for span in patch.services):
        yield window.lane(
            name,
            (
                (span.t, span.t + span.seconds, span.name, "service")
                for span in patch.services
                if span.about == name
            ),
        )


def _said(patch: PatchRow) -> Iterable[tuple[float, float, str, str]]:
    for t, line in patch.said:
        yield t, t, line, "said"


def _answers(probe: ProbeRow) -> Iterable[tuple[float, float, str, str]]:
    yield probe.started, probe.ended, "answered", "answers"
    for begin, end in probe.gaps:
        yield begin, end, "no answer", "gap"
