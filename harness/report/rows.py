"""The rows that every report shows: what a run, a scenario, a check, a step, a patch and a probe amount to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Verdict: TypeAlias = Literal["passed", "failed", "error", "skipped"]


@dataclass(frozen=True)
class CheckRow:
    """One check of one scenario.

    Attributes:
        t: seconds since the run's start.
        name: ``subject.what-holds``.
        verdict: what became of it.
        reason: one line.
        details: the lines that prove it.
        occasion: after what it was made, such as ``second patch``; empty for a check of the scenario's own.
        seconds: how long it took to make.
        known: why it may fail for a while, from the list of known failures; empty for every other check.
    """

    t: float
    name: str
    verdict: Verdict
    reason: str = ""
    details: tuple[str, ...] = ()
    occasion: str = ""
    seconds: float = 0.0
    known: str = ""


@dataclass(frozen=True)
class StepRow:
    """One step; ``seconds`` is None while it runs, which in a finished log means that it never ended."""

    t: float
    name: str
    seconds: float | None = None
    verdict: Verdict | None = None
    reason: str = ""
    vm: str = ""

    @property
    def title(self) -> str:
        """The step with the VM that it is about."""
        return f"{self.vm}: {self.name}" if self.vm else self.name


@dataclass(frozen=True)
class TimeSpan:
    """A named stretch of time, perhaps about a service; ``t`` is seconds since the run's start."""

    t: float
    seconds: float
    name: str
    about: str = ""


@dataclass(frozen=True)
class PatchRow:
    """One live patch, as the KVM agent told of it.

    Attributes:
        t: seconds since the run's start, at which it was recorded.
        success: whether the KVM agent called it a success.
        details: the KVM agent's own line, or the guest's output when it failed.
        seconds: wall time of the script.
        occasion: which patch of the scenario it was, such as ``first patch``.
        log: last lines of the script's own log; a failed service's own words are among them.
        said: those of them that begin with a time, as seconds since the run's start and text.
        phases: of the script's transaction.
        services: what the script did to each service.
    """

    t: float
    success: bool
    details: str = ""
    seconds: float = 0.0
    occasion: str = ""
    log: tuple[str, ...] = ()
    said: tuple[tuple[float, str], ...] = ()
    phases: tuple[TimeSpan, ...] = ()
    services: tuple[TimeSpan, ...] = ()


@dataclass(frozen=True)
class ProbeRow:
    """The view of one probe during one patch.

    Times are seconds since the run's start, gaps are pairs of them; ``occasion`` says during which patch. Of the
    longest gap ``sure_gap_ms`` are not the host's own doing; None in logs that do not say.
    """

    name: str
    started: float
    ended: float
    sent: int
    lost: int
    longest_gap_ms: float
    broken_streams: int = 0
    budget_ms: float | None = None
    gaps: tuple[tuple[float, float], ...] = ()
    occasion: str = ""
    sure_gap_ms: float | None = None

    @property
    def within_budget(self) -> bool:
        """True if the longest gap is inside the budget, when there is one."""
        return self.budget_ms is None or self.longest_gap_ms <= self.budget_ms


@dataclass(frozen=True)
class ScenarioRow:
    """One cell of the matrix, or the part of the run that belongs to no scenario (``id`` is empty).

    ``by_checks`` says that it failed by its checks and by nothing else; ``retried`` are the reasons of
    attempts that the machine was at fault for, and after which it was made again.
    """

    id: str
    t: float = 0.0
    at: str = ""
    title: str = ""
    file: str = ""
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
    patches: tuple[PatchRow, ...] = ()
    probes: tuple[ProbeRow, ...] = ()
    logs: tuple[str, ...] = ()
    by_checks: bool = False
    retried: tuple[str, ...] = ()

    @property
    def longest_gap_ms(self) -> float | None:
        """The longest gap that any probe saw, in milliseconds; None without probes."""
        return max((probe.longest_gap_ms for probe in self.probes), default=None)

    @property
    def failures(self) -> tuple[CheckRow, ...]:
        """The checks that did not hold and had to."""
        return tuple(
            check for check in self.checks if check.verdict in {"failed", "error"} and not check.known
        )

    @property
    def known(self) -> tuple[CheckRow, ...]:
        """The checks that did not hold, as the list of known failures says."""
        return tuple(check for check in self.checks if check.known)

    @property
    def skipped(self) -> tuple[CheckRow, ...]:
        """The checks that had nothing to look at; they say nothing, and are not among those that passed."""
        return tuple(check for check in self.checks if check.verdict == "skipped")

    @property
    def held(self) -> tuple[CheckRow, ...]:
        """The checks that held."""
        return tuple(check for check in self.checks if check.verdict == "passed")


@dataclass(frozen=True)
class RunReport:
    """A whole run.

    Attributes:
        name: the run's.
        started_at: UTC, ISO 8601.
        seconds: from the first event to the last.
        verdict: the worst of what the run, its scenarios and its checks say.
        reason: of that verdict.
        facts: what the run says of itself, for people.
        options: what it was told, for its repetition.
        scenarios: one row each, in the order in which they began.
        common: what belongs to no scenario.
        subjects: what was tested, a record a cell: bundles with digests, tool, host.
        damaged: what of the event log could not be read, a line each.
    """

    name: str
    started_at: str
    seconds: float
    verdict: Verdict
    reason: str
    facts: dict[str, str]
    options: dict[str, str]
    scenarios: tuple[ScenarioRow, ...]
    common: ScenarioRow
    subjects: tuple[dict[str, Any], ...] = ()
    damaged: tuple[str, ...] = field(default=())

    def count(self, verdict: Verdict) -> int:
        """Return how many scenarios ended with a verdict."""
        return sum(scenario.verdict == verdict for scenario in self.scenarios)
