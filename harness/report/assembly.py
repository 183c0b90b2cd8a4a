"""Turns the events of a run into the rows that every report shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.record import severity
from harness.record.events import Event
from harness.report import script
from harness.report.event_fields import finite, lines, number, text, verdict
from harness.report.known import Known
from harness.report.rows import CheckRow, PatchRow, ProbeRow, RunReport, ScenarioRow, StepRow, Verdict

_WORST_FIRST: tuple[Verdict, ...] = ("error", "failed", "passed", "skipped")


@dataclass
class _Builder:
    """Collects rows while the events go by."""

    facts: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    scenarios: dict[str, ScenarioRow] = field(default_factory=lambda: {"": ScenarioRow("")})
    subjects: list[dict[str, Any]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    known: tuple[Known, ...] = ()
    end: Event | None = None

    def change(self, event: Event, change: Callable[[ScenarioRow], ScenarioRow]) -> None:
        """Apply a change to the row that the event belongs to."""
        key = text(event.get("scenario") or "")
        self.scenarios[key] = change(self.scenarios.get(key) or ScenarioRow(key, t=event.t))

    def take(self, number: int, event: Event) -> None:
        """Take an event; one that cannot be read is noted, so that no verdict stands on what is missing."""
        handler = _HANDLERS.get(event.kind)
        if handler is None:
            return
        try:
            handler(self, event)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            said = error.args[0] if error.args else type(error).__name__
            self.damaged.append(f"event {number} ({text(event.kind)[:40]}): {text(said)[:200]}")


def build(events: Sequence[Event], name: str = "run", unreadable: Sequence[int] = ()) -> RunReport:
    """Return the report that the events of a run amount to.

    A scenario whose end is not recorded is an error, one that claims to have passed although one of its checks did
    not hold is a failure, and so is a log of which a part cannot be read an error: a report never says more than the
    events do.

    Args:
        events: of the run, in their order.
        name: the run's.
        unreadable: numbers of the log's lines that are no JSON.
    """
    builder = _Builder()
    builder.damaged += [f"line {number} is cut off or no JSON" for number in unreadable]
    for place, event in enumerate(events, 1):
        builder.take(place, event)
    common = builder.scenarios.pop("")
    scenarios = tuple(_settle(_marked(scenario, builder.known)) for scenario in builder.scenarios.values())
    worst, reason = _judge(builder, scenarios, _settle(common))
    return RunReport(
        name=name,
        started_at=events[0].at if events else "",
        seconds=events[-1].t if events else 0.0,
        verdict=worst,
        reason=reason,
        facts=builder.facts,
        options=builder.options,
        scenarios=scenarios,
        common=common,
        subjects=tuple(builder.subjects),
        damaged=tuple(builder.damaged),
    )


def _judge(builder: _Builder, scenarios: Sequence[ScenarioRow], common: ScenarioRow) -> tuple[Verdict, str]:
    """Return the worst of what the run says of itself and what its scenarios and checks say."""
    end = builder.end
    if end is None:
        return "error", "the run ended before it could say how"
    if builder.damaged:
        count = len(builder.damaged)
        return "error", f"the event log is damaged in {count} place(s): {builder.damaged[0]}"
    said = verdict(end)
    if said == "passed" and scenarios and all(row.verdict == "skipped" for row in scenarios):
        return "skipped", "every scenario was skipped"
    found = [scenario for scenario in (*scenarios, common) if scenario.verdict in {"failed", "error"}]
    worst = min((said, *(row.verdict or "error" for row in found)), key=_WORST_FIRST.index)
    if said != "passed" and end.get("reason"):
        return worst, text(end["reason"])
    excused = [row for row in scenarios if row.known]
    if said == "failed" and excused and not found:
        return "passed", f"{len(excused)} scenarios with nothing but known failures"
    names = ", ".join(row.id or "the run's own checks" for row in found)
    return worst, f"did not hold: {names}" if found else text(end.get("reason", ""))


def _settle(row: ScenarioRow) -> ScenarioRow:
    """Give a scenario the verdict that its rows allow."""
    if row.verdict is None and row.id:
        last = row.steps[-1].name if row.steps else "its start"
        return replace(row, verdict="error", reason=f"no end is recorded; the last thing seen is {last}")
    if row.verdict in {None, "passed"} and row.failures:
        return replace(row, verdict="failed", reason=_gravest(row))
    return row


def _marked(row: ScenarioRow, known: Sequence[Known]) -> ScenarioRow:
    """Mark the failed checks of a scenario that the list of known failures has; with no others, it has not failed."""
    checks = tuple(
        replace(check, known=next((str(one) for one in known if one.covers(row.id, check.name)), ""))
        if check.verdict == "failed"
        else check
        for check in row.checks
    )
    marked = replace(row, checks=checks)
    if not marked.known or row.verdict != "failed" or not row.by_checks:
        return marked
    if marked.failures:
        return replace(marked, reason=_gravest(marked))
    names = ", ".join(dict.fromkeys(check.name for check in marked.known))
    return replace(marked, verdict="passed", reason=f"known failures: {names}")


def _gravest(row: ScenarioRow) -> str:
    """Return the gravest failure of a scenario, in one line."""
    first = min(row.failures, key=lambda failure: severity.rank(failure.name))
    return f"{first.name}: {first.reason}"


def _known_failures(builder: _Builder, event: Event) -> None:
    builder.known = tuple(
        Known(*(text(row[name]) for name in ("check", "scenario", "reason", "until")))
        for row in event["rows"]
    )


def _facts(builder: _Builder, event: Event) -> None:
    """Collect facts; a run over several cells says each of them."""
    for name, value in event["facts"].items():
        said = builder.facts.get(name, "")
        if text(value) not in said.split("; "):
            builder.facts[text(name)] = f"{said}; {text(value)}" if said else text(value)


def _subject(builder: _Builder, event: Event) -> None:
    record = event["subject"]
    if not isinstance(record, dict):
        raise TypeError("the subject is no table")
    if record not in builder.subjects:
        builder.subjects.append(record)


def _options(builder: _Builder, event: Event) -> None:
    builder.options.update({name: text(value) for name, value in event["options"].items()})


def _scenario_started(builder: _Builder, event: Event) -> None:
    def begin(row: ScenarioRow) -> ScenarioRow:
        # A scenario that is made again begins anew; why is kept.
        retried = (*row.retried, row.reason or "it did not end") if row.at else row.retried
        return replace(
            ScenarioRow(row.id) if row.at else row,
            retried=retried,
            t=event.t,
            at=event.at,
            title=text(event.get("title", "")),
            file=text(event.get("file", "")),
            vm_type=text(event.get("type", "")),
            from_release=text(event.get("from", "")),
            to_release=text(event.get("to", "")),
        )

    builder.change(event, begin)


def _template(builder: _Builder, event: Event) -> None:
    label = text(event["label"])
    builder.change(event, lambda row: replace(row, template=label))


def _scenario_finished(builder: _Builder, event: Event) -> None:
    word, reason = verdict(event), text(event.get("reason", ""))

    def end(row: ScenarioRow) -> ScenarioRow:
        seconds = number(event, "seconds", event.t - row.t)
        return replace(
            row, seconds=seconds, verdict=word, reason=reason, by_checks=event.get("by_checks") is True
        )

    builder.change(event, end)


def _run_finished(builder: _Builder, event: Event) -> None:
    verdict(event)
    builder.end = event


def _step_started(builder: _Builder, event: Event) -> None:
    step = StepRow(event.t, text(event["name"]), vm=text(event.get("vm", "")))
    builder.change(event, lambda row: replace(row, steps=(*row.steps, step)))


def _step_finished(builder: _Builder, event: Event) -> None:
    name, seconds, word = text(event["name"]), number(event, "seconds"), verdict(event)
    reason = text(event.get("reason", ""))

    def end(row: ScenarioRow) -> ScenarioRow:
        steps = list(row.steps)
        for index in reversed(range(len(steps))):
            if steps[index].name == name and steps[index].seconds is None:
                steps[index] = replace(steps[index], seconds=seconds, verdict=word, reason=reason)
                break
        return replace(row, steps=tuple(steps))

    builder.change(event, end)


def _patch(builder: _Builder, event: Event) -> None:
    log = lines(event.get("log", []))
    told = script.read(event, log)
    patch = PatchRow(
        event.t,
        event["success"] is True,
        text(event.get("details", "")),
        number(event, "seconds", 0.0),
        text(event.get("occasion", "")),
        log,
        told.said,
        told.phases,
        told.services,
    )
    builder.change(event, lambda row: replace(row, patches=(*row.patches, patch)))


def _logs(builder: _Builder, event: Event) -> None:
    files = lines(event["files"])
    builder.change(event, lambda row: replace(row, logs=tuple(dict.fromkeys((*row.logs, *files)))))


def _check(builder: _Builder, event: Event) -> None:
    check = CheckRow(
        event.t,
        text(event["name"]),
        verdict(event),
        text(event.get("reason", "")),
        lines(event.get("details", [])),
        text(event.get("occasion", "")),
        number(event, "seconds", 0.0),
    )
    builder.change(event, lambda row: replace(row, checks=(*row.checks, check)))


def _services(builder: _Builder, event: Event) -> None:
    names = lines(event["restarted"])
    # A scenario that patches twice renews the same services twice.
    builder.change(event, lambda row: replace(row, services=tuple(dict.fromkeys((*row.services, *names)))))


def _rules(builder: _Builder, event: Event) -> None:
    count = int(number(event, "reapplied"))
    builder.change(event, lambda row: replace(row, rules=(row.rules or 0) + count))


def _probe(builder: _Builder, event: Event) -> None:
    budget, sure = event.get("budget_ms"), event.get("sure_gap_ms")
    probe = ProbeRow(
        name=text(event["name"]),
        started=number(event, "started"),
        ended=number(event, "ended"),
        sent=int(number(event, "sent")),
        lost=int(number(event, "lost")),
        longest_gap_ms=number(event, "longest_gap_ms"),
        broken_streams=int(number(event, "broken_streams", 0)),
        budget_ms=None if budget is None else finite(budget),
        gaps=tuple((finite(start), finite(end)) for start, end in event.get("gaps", ())),
        occasion=text(event.get("occasion", "")),
        sure_gap_ms=None if sure is None else finite(sure),
    )
    builder.change(event, lambda row: replace(row, probes=(*row.probes, probe)))


_HANDLERS: dict[str, Callable[[_Builder, Event], None]] = {
    "run": _facts,
    "known_failures": _known_failures,
    "subject": _subject,
    "options": _options,
    "run_finished": _run_finished,
    "scenario_started": _scenario_started,
    "template": _template,
    "scenario_finished": _scenario_finished,
    "step_started": _step_started,
    "step_finished": _step_finished,
    "patch": _patch,
    "logs": _logs,
    "check": _check,
    "services": _services,
    "rules": _rules,
    "probe": _probe,
}
