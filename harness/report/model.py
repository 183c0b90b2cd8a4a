"""Turns the events of a run into the rows that every report shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from harness.record import severity
from harness.record.events import Event, Json

Verdict: TypeAlias = Literal["passed", "failed", "error", "skipped"]
_WORST_FIRST: tuple[Verdict, ...] = ("error", "failed", "passed", "skipped")


@dataclass(frozen=True)
class CheckRow:
    """One check of one scenario."""

    t: float
    name: str
    verdict: Verdict
    reason: str = ""
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepRow:
    """One step; ``seconds`` is None while it runs, which in a finished log means that it never ended."""

    t: float
    name: str
    seconds: float | None = None
    verdict: Verdict | None = None
    reason: str = ""


@dataclass(frozen=True)
class ProbeRow:
    """What one probe saw. Times are seconds since the run's start, gaps are pairs of them."""

    name: str
    started: float
    ended: float
    sent: int
    lost: int
    longest_gap_ms: float
    broken_streams: int = 0
    budget_ms: float | None = None
    gaps: tuple[tuple[float, float], ...] = ()

    @property
    def within_budget(self) -> bool:
        """Whether the longest gap is inside the budget, when there is one."""
        return self.budget_ms is None or self.longest_gap_ms <= self.budget_ms


@dataclass(frozen=True)
class ScenarioRow:
    """One cell of the matrix, or the part of the run that belongs to no scenario (``id`` is empty)."""

    id: str
    t: float = 0.0
    title: str = ""
    vm_type: str = ""
    from_release: str = ""
    to_release: str = ""
    template: str = ""
    seconds: float | None = None
    verdict: Verdict | None = None
    reason: str = ""
    services: tuple[str, ...] = ()
    rules: int | None = None
    checks: tuple[CheckRow, ...] = ()
    steps: tuple[StepRow, ...] = ()
    probes: tuple[ProbeRow, ...] = ()

    @property
    def longest_gap_ms(self) -> float | None:
        """The longest gap that any probe saw, in milliseconds; None without probes."""
        return max((probe.longest_gap_ms for probe in self.probes), default=None)

    @property
    def failures(self) -> tuple[CheckRow, ...]:
        """The checks that did not hold."""
        return tuple(check for check in self.checks if check.verdict in {"failed", "error"})


@dataclass(frozen=True)
class RunReport:
    """A whole run."""

    name: str
    started_at: str
    seconds: float
    verdict: Verdict
    reason: str
    facts: dict[str, str]
    options: dict[str, str]
    scenarios: tuple[ScenarioRow, ...]
    common: ScenarioRow

    def count(self, verdict: Verdict) -> int:
        """Return how many scenarios ended with a verdict."""
        return sum(scenario.verdict == verdict for scenario in self.scenarios)


@dataclass
class _Builder:
    """Collects rows while the events go by."""

    facts: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    scenarios: dict[str, ScenarioRow] = field(default_factory=lambda: {"": ScenarioRow("")})
    end: Event | None = None

    def change(self, event: Event, change: Callable[[ScenarioRow], ScenarioRow]) -> None:
        """Apply a change to the row that the event belongs to."""
        key = str(event.get("scenario") or "")
        self.scenarios[key] = change(self.scenarios.get(key) or ScenarioRow(key, t=event.t))


def build(events: Sequence[Event], name: str = "run") -> RunReport:
    """Return the report that the events of a run amount to.

    A scenario whose end is not recorded is an error, and one that claims to have passed although one of its
    checks did not hold is a failure: a report never says more than the events do.
    """
    builder = _Builder()
    for event in events:
        handler = _HANDLERS.get(event.kind)
        if handler is not None:
            handler(builder, event)
    common = builder.scenarios.pop("")
    scenarios = tuple(_settle(scenario) for scenario in builder.scenarios.values())
    verdict, reason = _judge(builder.end, scenarios, _settle(common))
    return RunReport(
        name=name,
        started_at=events[0].at if events else "",
        seconds=events[-1].t if events else 0.0,
        verdict=verdict,
        reason=reason,
        facts=builder.facts,
        options=builder.options,
        scenarios=scenarios,
        common=common,
    )


def _judge(end: Event | None, scenarios: Sequence[ScenarioRow], common: ScenarioRow) -> tuple[Verdict, str]:
    """Return the worst of what the run says of itself and what its scenarios and checks say."""
    if end is None:
        return "error", "the run ended before it could say how"
    said: Verdict = end.get("verdict", "error")
    if said == "passed" and scenarios and all(row.verdict == "skipped" for row in scenarios):
        return "skipped", "every scenario was skipped"
    found = [scenario for scenario in (*scenarios, common) if scenario.verdict in {"failed", "error"}]
    worst = min((said, *(row.verdict or "error" for row in found)), key=_WORST_FIRST.index)
    if said != "passed" and end.get("reason"):
        return worst, str(end["reason"])
    names = ", ".join(row.id or "the run's own checks" for row in found)
    return worst, f"did not hold: {names}" if found else str(end.get("reason", ""))


def _settle(row: ScenarioRow) -> ScenarioRow:
    """Give a scenario the verdict that its rows allow."""
    if row.verdict is None and row.id:
        last = row.steps[-1].name if row.steps else "its start"
        return replace(row, verdict="error", reason=f"no end is recorded; the last thing seen is {last}")
    if row.verdict in {None, "passed"} and row.failures:
        first = min(row.failures, key=lambda failure: severity.rank(failure.name))
        return replace(row, verdict="failed", reason=f"{first.name}: {first.reason}")
    return row


def _facts(builder: _Builder, event: Event) -> None:
    """Collect facts; a run over several cells says each of them."""
    for name, value in event["facts"].items():
        said = builder.facts.get(name, "")
        if _text(value) not in said:
            builder.facts[name] = f"{said}; {_text(value)}" if said else _text(value)


def _options(builder: _Builder, event: Event) -> None:
    builder.options.update({name: _text(value) for name, value in event["options"].items()})


def _scenario_started(builder: _Builder, event: Event) -> None:
    builder.change(
        event,
        lambda row: replace(
            row,
            t=event.t,
            title=str(event.get("title", "")),
            vm_type=str(event.get("type", "")),
            from_release=str(event.get("from", "")),
            to_release=str(event.get("to", "")),
        ),
    )


def _template(builder: _Builder, event: Event) -> None:
    builder.change(event, lambda row: replace(row, template=str(event["label"])))


def _scenario_finished(builder: _Builder, event: Event) -> None:
    def end(row: ScenarioRow) -> ScenarioRow:
        seconds = float(event.get("seconds", event.t - row.t))
        return replace(row, seconds=seconds, verdict=event["verdict"], reason=str(event.get("reason", "")))

    builder.change(event, end)


def _run_finished(builder: _Builder, event: Event) -> None:
    builder.end = event


def _step_started(builder: _Builder, event: Event) -> None:
    step = StepRow(event.t, str(event["name"]))
    builder.change(event, lambda row: replace(row, steps=(*row.steps, step)))


def _step_finished(builder: _Builder, event: Event) -> None:
    def end(row: ScenarioRow) -> ScenarioRow:
        steps = list(row.steps)
        for index in reversed(range(len(steps))):
            if steps[index].name == event["name"] and steps[index].seconds is None:
                steps[index] = replace(
                    steps[index],
                    seconds=float(event["seconds"]),
                    verdict=event["verdict"],
                    reason=str(event.get("reason", "")),
                )
                break
        return replace(row, steps=tuple(steps))

    builder.change(event, end)


def _check(builder: _Builder, event: Event) -> None:
    check = CheckRow(
        event.t,
        str(event["name"]),
        event["verdict"],
        str(event.get("reason", "")),
        tuple(str(line) for line in event.get("details", ())),
    )
    builder.change(event, lambda row: replace(row, checks=(*row.checks, check)))


def _services(builder: _Builder, event: Event) -> None:
    names = [str(name) for name in event["restarted"]]
    # A scenario that patches twice renews the same services twice.
    builder.change(event, lambda row: replace(row, services=tuple(dict.fromkeys((*row.services, *names)))))


def _rules(builder: _Builder, event: Event) -> None:
    count = int(event["reapplied"])
    builder.change(event, lambda row: replace(row, rules=(row.rules or 0) + count))


def _probe(builder: _Builder, event: Event) -> None:
    probe = ProbeRow(
        name=str(event["name"]),
        started=float(event["started"]),
        ended=float(event["ended"]),
        sent=int(event["sent"]),
        lost=int(event["lost"]),
        longest_gap_ms=float(event["longest_gap_ms"]),
        broken_streams=int(event.get("broken_streams", 0)),
        budget_ms=event.get("budget_ms"),
        gaps=tuple((float(start), float(end)) for start, end in event.get("gaps", ())),
    )
    builder.change(event, lambda row: replace(row, probes=(*row.probes, probe)))


def _text(value: Json) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


_HANDLERS: dict[str, Callable[[_Builder, Event], None]] = {
    "run": _facts,
    "options": _options,
    "run_finished": _run_finished,
    "scenario_started": _scenario_started,
    "template": _template,
    "scenario_finished": _scenario_finished,
    "step_started": _step_started,
    "step_finished": _step_finished,
    "check": _check,
    "services": _services,
    "rules": _rules,
    "probe": _probe,
}
