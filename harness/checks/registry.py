"""The list of checks, and how they are run and recorded."""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal, TypeAlias

from harness.checks.case import Case, Expectation
from harness.observe import tally
from harness.observe.tally import Excused
from harness.record.events import Emitter

# The modules that define checks, in the order in which people read them.
_MODULES = (
    "answer", "observed", "services", "units", "processes", "files", "disk", "kernel", "rules", "flows", "network",
    "identity", "logs", "traffic",
)  # fmt: skip
_BOTH: tuple[Expectation, ...] = ("patched", "kept")


@dataclass(frozen=True)
class Finding:
    """A reason why a check does not hold: one line, and the lines that prove it."""

    reason: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skip:
    """A reason why a check cannot be made."""

    reason: str


def found(lines: Sequence[str]) -> Finding | None:
    """Return a finding of all lines that tells the first one and how many more there are; None without any."""
    if not lines:
        return None
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return Finding(f"{lines[0]}{more}", tuple(lines))


class CannotLook(Exception):
    """The guest did not say what a check has to look at: that is an error, never a pass."""


class HostStoodStill(CannotLook):
    """The host itself may have made what was seen: nobody can be judged by it."""


Result: TypeAlias = Finding | Skip | None
Judge: TypeAlias = Callable[[Case], Result]


@dataclass(frozen=True)
class Check:
    """A named check.

    Attributes:
        name: ``subject.what-holds``.
        why: one line: what would have gone wrong for users when it does not hold.
        applies: the expectations under which it is made.
        judge: returns None when it holds.
    """

    name: str
    why: str
    applies: tuple[Expectation, ...]
    judge: Judge


@dataclass(frozen=True)
class Outcome:
    """The end of one check.

    Attributes:
        seconds: how long it took to make.
        by_host: of an error, whether the host itself made it.
        excused: what reviewed rows let pass in it: row and what differed.
    """

    name: str
    verdict: Literal["passed", "failed", "error", "skipped"]
    reason: str = ""
    details: tuple[str, ...] = ()
    seconds: float = 0.0
    by_host: bool = False
    excused: frozenset[tuple[str, str]] = field(default=frozenset(), compare=False, repr=False)

    def excusing(self, excused: Excused) -> Outcome:
        """Return the outcome with what further rows let pass."""
        more = {(row, what) for row, seen in excused.items() for what in seen}
        return replace(self, excused=self.excused | more)


_REGISTERED: list[Check] = []


def check(name: str, why: str, applies: tuple[Expectation, ...] = _BOTH) -> Callable[[Judge], Judge]:
    """Register a function as a check."""

    def register(judge: Judge) -> Judge:
        if any(known.name == name for known in _REGISTERED):
            raise ValueError(f"two checks are named {name!r}")
        _REGISTERED.append(Check(name, why, applies, judge))
        return judge

    return register


@cache
def checks() -> tuple[Check, ...]:
    """Return every check."""
    for module in _MODULES:
        importlib.import_module(f"harness.checks.{module}")
    return tuple(_REGISTERED)


def judge(case: Case, only: Iterable[str] | None = None) -> tuple[Outcome, ...]:
    """Make every check that applies to a case.

    Args:
        case: what happened.
        only: names of checks, or their subjects; None means all.
    """
    wanted = None if only is None else set(only)
    return tuple(
        _timed(known, case)
        for known in checks()
        if case.expected in known.applies
        and (wanted is None or known.name in wanted or known.name.partition(".")[0] in wanted)
    )


def _timed(known: Check, case: Case) -> Outcome:
    started = time.perf_counter()
    with tally.opened() as excused:
        made = _outcome(known, case).excusing(excused)
    return replace(made, seconds=round(time.perf_counter() - started, 6))


def _outcome(known: Check, case: Case) -> Outcome:
    try:
        result = known.judge(case)
    except CannotLook as error:
        return Outcome(known.name, "error", str(error), by_host=isinstance(error, HostStoodStill))
    except Exception as error:  # one that breaks must not hide what the others found
        return Outcome(known.name, "error", f"the check itself broke: {type(error).__name__}: {error}")
    if isinstance(result, Finding):
        return Outcome(known.name, "failed", result.reason, result.details)
    if isinstance(result, Skip):
        return Outcome(known.name, "skipped", result.reason)
    return Outcome(known.name, "passed")


def failed(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Return the outcomes that mean that something is wrong."""
    return tuple(outcome for outcome in outcomes if outcome.verdict in {"failed", "error"})


def excused(outcomes: Iterable[Outcome]) -> Excused:
    """Return what reviewed rows let pass in some checks, by row; what several of them saw counts once."""
    found: Excused = {}
    for row, what in itertools.chain.from_iterable(outcome.excused for outcome in outcomes):
        found.setdefault(row, set()).add(what)
    return found


def record(
    log: Emitter, scenario: str, outcomes: Sequence[Outcome], occasion: str = ""
) -> tuple[Outcome, ...]:
    """Write one event a check, and one of what reviewed rows excused; return those that mean that something is wrong.

    Args:
        log: takes the events.
        scenario: whose checks they are.
        outcomes: of the checks.
        occasion: after what they were made, such as ``first patch``: a scenario that patches twice makes them twice.
    """
    for outcome in outcomes:
        log.emit(
            "check", scenario=scenario, name=outcome.name, verdict=outcome.verdict, occasion=occasion,
            reason=outcome.reason, details=list(outcome.details), seconds=outcome.seconds,
        )  # fmt: skip
    if counts := {row: len(seen) for row, seen in sorted(excused(outcomes).items())}:
        log.emit("excused", scenario=scenario, occasion=occasion, rows=counts)
    return failed(outcomes)
