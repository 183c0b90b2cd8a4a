"""The plan for people and machines: a table, JSON, and Markdown for a change board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bundle.sink import cell
from harness.rollout.order import Placed, stage_name
from harness.rollout.plan import PlanRow, RolloutPlan
from harness.rollout.words import duration, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA = 1


def document(plan: RolloutPlan) -> dict[str, Any]:
    """Return the plan as one JSON document."""
    places = {row.unit.id: (number, stage_name(row.stage)) for number, row in enumerate(plan.order, 1)}
    return {
        "schema": SCHEMA,
        "made_at": plan.made_at,
        "api": plan.api,
        "release": plan.cloud.release,
        "target": asdict(plan.target),
        "cloud": plan.cloud.counts,
        "templates": plan.templates,
        "limits": limits(plan),
        "estimate": {
            "seconds": plan.seconds,
            "units_measured": plan.measured.sources[0],
            "tests_measured": plan.measured.sources[1],
        },
        "summary": summary(plan),
        "warnings": list(plan.warnings),
        "strays": [{"vm": name, "reason": why} for name, why in plan.strays],
        "units": [_unit(row, places) for row in plan.rows],
    }


def _unit(row: PlanRow, places: dict[str, tuple[int, str]]) -> dict[str, Any]:
    number, stage = places.get(row.unit.id, (None, None))
    return {
        **asdict(row.unit),
        "standing": standing(row),
        "place": number,
        "stage": stage,
        "call": row.unit.command,
        "seconds": row.seconds,
        "restarts": row.restarts,
        "longest_gap_ms": row.gap_ms,
        "needs": list(row.judged.needs),
        "blocks": list(row.judged.blocks),
        "warnings": list(row.judged.warnings),
        "verdicts": row.judged.verdicts or {},
    }


def limits(plan: RolloutPlan) -> dict[str, Any]:
    """Return the limits of the run that a plan is made for."""
    chosen = plan.limits
    return {
        "at_once": chosen.at_once,
        "pause_seconds": chosen.pause,
        "window": str(chosen.window) if chosen.window else None,
        "max": chosen.most,
        "max_failures": chosen.max_failures,
    }


def standing(row: PlanRow) -> str:
    """Return what becomes of a unit, in a word."""
    return "left out" if row.left_out else row.judged.standing


def summary(plan: RolloutPlan) -> dict[str, int]:
    """Return how many units are patched, current, blocked and left out."""
    counts = Counter(standing(row) for row in plan.rows)
    return {word: counts[word] for word in ("patch", "current", "blocked", "left out")}


def headline(plan: RolloutPlan) -> list[str]:
    """Return what a person has to know before anything else."""
    counts = summary(plan)
    measured = plan.measured.sources[0]
    rests = f"from {measured} measured units" if measured else "assumed, nothing was measured yet"
    digest = ", ".join(f"{digest[:16]}…" for digest in plan.target.digests) or "none given"
    return [
        f"{plan.api}: CloudStack {plan.cloud.release}; "
        + ", ".join(f"{name}: {count}" for name, count in plan.cloud.counts.items() if count),
        "templates: " + (", ".join(f"{name}: {count}" for name, count in plan.templates.items()) or "none"),
        f"to install: digest {digest}; verdicts for {_whose(plan)}",
        f"{counts['patch']} units to patch, {counts['current']} current, {counts['blocked']} blocked, "
        f"{counts['left out']} left out; about {duration(plan.seconds)} ({rests})",
    ]


def _whose(plan: RolloutPlan) -> str:
    from bundle.matrix import WHOSE

    return WHOSE[plan.target.script]


def gap(row: PlanRow) -> str:
    """Return what is restarted, and for how long traffic was away in tests."""
    renewed = [
        f"{effect} {', '.join(names)}"
        for effect in ("failover", "restart", "reload")
        if (names := sorted(name for name, found in row.restarts.items() if found == effect))
    ]
    what = "; ".join(renewed) or "unknown"
    seen = f", up to {row.gap_ms / 1000:.1f} s in tests" if row.gap_ms is not None else ""
    return f"{what}{seen}"


def table(plan: RolloutPlan) -> RenderableType:
    """Return what ``rich`` prints for a plan."""
    from rich.console import Group
    from rich.table import Table

    lines: list[RenderableType] = [cell(line) for line in headline(plan)]
    shown = Table()
    for column in ("#", "stage", "unit", "zone", "from", "gap", "about", "known"):
        shown.add_column(column, overflow="fold")
    for number, placed in enumerate(plan.order, 1):
        shown.add_row(*(cell(text) for text in _cells(number, placed, plan.row(placed.unit.id))))
    if plan.order:
        lines.append(shown)
    lines += [cell(f"{mark} {text}") for mark, text in remarks(plan)]
    return Group(*lines)


def _cells(number: int, placed: Placed, row: PlanRow) -> list[str]:
    templates = sorted({member.template or "?" for member in row.unit.reached})
    words = ", ".join(f"{name} {word}" for name, word in (row.judged.verdicts or {}).items())
    return [
        str(number),
        stage_name(placed.stage),
        row.unit.title,
        row.unit.zone_name,
        ", ".join(templates),
        gap(row),
        duration(row.seconds),
        "; ".join(
            filter(None, (words, f"warnings: {len(row.judged.warnings)}" if row.judged.warnings else ""))
        ),
    ]


def remarks(plan: RolloutPlan) -> Iterable[tuple[str, str]]:
    """Yield what a person should read: about the whole, then what is blocked, left over, and warned of."""
    yield from (("warning:", text) for text in plan.warnings)
    for row in plan.those("blocked"):
        yield "blocked:", f"{row.unit.title}: {'; '.join(row.judged.blocks)}"
    yield from (("in no unit:", f"{name}: {why}") for name, why in plan.strays)
    seen: dict[str, list[str]] = {}
    for placed in plan.order:
        for text in plan.row(placed.unit.id).judged.warnings:
            seen.setdefault(text, []).append(placed.unit.name)
    for text, names in seen.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield "warning:", f"{text} [{', '.join(names[:3])}{more}]"


def markdown(plan: RolloutPlan) -> str:
    """Return the plan as one page of Markdown."""
    lines = [f"# Live patch of the system VMs: plan of {plan.made_at}", ""]
    lines += [f"* {plain(line)}" for line in headline(plan)]
    chosen = limits(plan)
    lines += [
        f"* at once: {chosen['at_once']}, never two on one host; pause {chosen['pause_seconds']:g} s; window "
        f"{chosen['window'] or 'any time'}; ends after {chosen['max_failures']} failure(s)",
        "* nothing has been changed: a plan only reads",
        "",
    ]
    restarted = {name: effect for row in plan.rows for name, effect in row.restarts.items()}
    if restarted:
        lines += ["## What the script renews", "", f"From {plain(plan.target.compared)}.", ""]
        lines += ["| service | effect |", "|---|---|"]
        lines += [f"| {plain(name)} | {effect} |" for name, effect in sorted(restarted.items())] + [""]
    lines += [
        "## In this order",
        "",
        "| # | stage | unit | zone | from | gap | about |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, placed in enumerate(plan.order, 1):
        cells = _cells(number, placed, plan.row(placed.unit.id))[:-1]
        lines.append(f"| {' | '.join(map(plain, cells))} |")
    notes = [f"* {mark} {plain(text)}" for mark, text in remarks(plan)]
    return "\n".join([*lines, *(["", "## To be known", "", *notes] if notes else []), ""])
