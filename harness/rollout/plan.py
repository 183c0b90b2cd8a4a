"""The plan of a rollout: every unit with what is to be done with it, in order, with time and warnings. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bundle import catalogue as catalogue_module
from bundle.catalogue import Catalogue
from bundle.errors import UsageError
from harness.rollout.history import Measured
from harness.rollout.judge import UnitJudge, UnitJudgement, vm_types
from harness.rollout.order import Placed, RolloutLimits, choose_canaries, estimate, stages
from harness.rollout.select import matches, unmatched
from harness.rollout.survey import Cloud
from harness.rollout.target import RolloutTarget
from harness.rollout.units import PatchUnit, group


@dataclass(frozen=True)
class Choice:
    """The units that a person wants.

    Attributes:
        only: words of which one must mean a unit; empty for all.
        exclude: words of which none may.
        canaries: words for the units that come first; empty lets the plan choose.
        approved: ids of units that somebody has approved; None when nobody was asked.
        accept_unknown: whether templates that the catalogue knows nothing about are patched, too.
    """

    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    canaries: tuple[str, ...] = ()
    approved: frozenset[str] | None = None
    accept_unknown: bool = False


@dataclass(frozen=True)
class PlanRow:
    """A unit of the plan.

    Attributes:
        unit: the unit.
        judged: what is to be done with it.
        left_out: why it is not patched although it could be; empty when it is.
        seconds: that it is expected to take.
        restarts: what the script renews on its VMs: service and effect.
        gap_ms: the longest gap that tests of these VM types saw; None when nothing was measured.
    """

    unit: PatchUnit
    judged: UnitJudgement
    left_out: str
    seconds: float
    restarts: dict[str, str]
    gap_ms: float | None


@dataclass(frozen=True)
class RolloutPlan:
    """A plan.

    Attributes:
        made_at: when, ISO 8601.
        api: address of the server.
        cloud: what was read.
        target: what is to be installed.
        limits: of the run that it is made for.
        rows: every unit, each once.
        order: the units that are patched, in order.
        strays: VMs that belong to no unit, with the reason.
        seconds: that all of it is expected to take; None when the window is too short for a unit.
        measured: what the expectation rests on.
        warnings: about the whole.
    """

    made_at: str
    api: str
    cloud: Cloud
    target: RolloutTarget
    limits: RolloutLimits
    rows: tuple[PlanRow, ...]
    order: tuple[Placed, ...]
    strays: tuple[tuple[str, str], ...]
    seconds: float | None
    measured: Measured
    warnings: tuple[str, ...]

    @property
    def templates(self) -> dict[str, int]:
        """Number of VMs of each version of template; ``unknown`` for those that tell none."""
        found = Counter(member.template or "unknown" for row in self.rows for member in row.unit.members)
        return dict(sorted(found.items()))

    def row(self, unit_id: str) -> PlanRow:
        """Return the row of a unit."""
        return next(row for row in self.rows if row.unit.id == unit_id)

    def those(self, standing: str) -> tuple[PlanRow, ...]:
        """Return the rows with a standing: ``patch``, ``current``, ``blocked`` or ``left out``."""
        if standing == "left out":
            return tuple(row for row in self.rows if row.left_out)
        return tuple(row for row in self.rows if row.judged.standing == standing and not row.left_out)


@dataclass(frozen=True)
class Planner:
    """The things that a plan is made from, besides the cloud and the target."""

    choice: Choice
    limits: RolloutLimits
    measured: Measured
    api: str
    now: datetime
    catalogue: Catalogue | None = None

    def plan(self, cloud: Cloud, target: RolloutTarget) -> RolloutPlan:
        """Return the plan for a cloud.

        Raises:
            UsageError: a word of ``only``, ``exclude`` or ``canaries`` means no unit.
        """
        grouped = group(cloud.vms, cloud.networks, cloud.vpcs)
        self._check_words(grouped.units)
        facts = self.catalogue or catalogue_module.load()
        judge = UnitJudge(cloud, target, facts, self.choice.accept_unknown)
        rows = tuple(self._row(unit, judge) for unit in grouped.units)
        wanted = [row for row in rows if row.judged.standing == "patch" and not row.left_out]
        order = self._order(wanted)
        return RolloutPlan(
            made_at=self.now.isoformat(timespec="seconds"),
            api=self.api,
            cloud=cloud,
            target=target,
            limits=self.limits,
            rows=rows,
            order=order,
            strays=tuple((row.name, why) for row, why in grouped.strays),
            seconds=estimate(order, self.limits, self.now),
            measured=self.measured,
            warnings=tuple(self._warnings(cloud, target, order, wanted)),
        )

    def _row(self, unit: PatchUnit, judge: UnitJudge) -> PlanRow:
        judged = judge.unit(unit)
        types = vm_types(unit)
        restarts: dict[str, str] = {}
        for vm_type in sorted(types):
            restarts |= judge.target.renewed(vm_type)
        gaps = [self.measured.gaps[name] for name in types if name in self.measured.gaps]
        seconds = self.measured.cost(unit.kind, unit.patches)
        window = self.limits.window
        if judged.standing == "patch" and window is not None and seconds > window.length:
            block = f"it is expected to take {seconds:.0f} s, longer than the window {window}"
            judged = replace(judged, standing="blocked", blocks=(block,))
        return PlanRow(unit, judged, self._left_out(unit, judged), seconds, restarts, max(gaps, default=None))

    def _left_out(self, unit: PatchUnit, judged: UnitJudgement) -> str:
        if judged.standing != "patch":
            return ""
        choice = self.choice
        if choice.only and not matches(unit, choice.only):
            return "not among --only"
        if matches(unit, choice.exclude):
            return "among --exclude"
        if choice.approved is not None and unit.id not in choice.approved:
            return "not in the approved plan"
        return ""

    def _order(self, wanted: Sequence[PlanRow]) -> tuple[Placed, ...]:
        units = [row.unit for row in wanted]
        if self.choice.canaries:
            chosen = frozenset(unit.id for unit in units if matches(unit, self.choice.canaries))
        else:
            chosen = choose_canaries(units)
        return stages(units, chosen, {row.unit.id: row.seconds for row in wanted})

    def _check_words(self, units: Sequence[PatchUnit]) -> None:
        for option, words in (
            ("--only", self.choice.only),
            ("--exclude", self.choice.exclude),
            ("--canary", self.choice.canaries),
        ):
            strange = unmatched(units, words)
            if strange:
                raise UsageError(f"{option} {strange[0]!r} means no unit of this cloud")

    def _warnings(
        self, cloud: Cloud, target: RolloutTarget, order: Sequence[Placed], wanted: Sequence[PlanRow]
    ) -> list[str]:
        found = list(cloud.notes)
        if not target.digests:
            found.append(
                "no --scripts-digest and no --bundle: the server's release alone says what is installed, and a bundle "
                "that was built anew for the same release is not seen"
            )
        if not target.renewals:
            found.append(
                "no --bundle: what will be restarted is unknown; CloudStack's script restarts every service"
            )
        if self.choice.approved is not None:
            gone = self.choice.approved - {row.unit.id for row in wanted}
            if gone:
                found.append(
                    f"{len(gone)} units of the approved plan are not patched: gone, current or blocked"
                )
        if order and estimate(order, self.limits, self.now) is None:
            found.append("the window is too short")
        return found
