"""The way of one unit: looked at, announced, called, followed, verified. A generator that yields the seconds to wait.

It runs in one thread with the other units, so its steps come one after the other and can be cut off anywhere: what is
done is in the journal before it is done, and :meth:`Course.steps` goes on from whatever the journal says.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field
from typing import TypeAlias

from bundle.catalogue import Catalogue
from harness.record.events import Json
from harness.report.rows import Verdict
from harness.rollout import verify
from harness.rollout.api import Api
from harness.rollout.journal import RolloutJournal, Settings, State, UnitProgress
from harness.rollout.judge import UnitJudge, UnitJudgement
from harness.rollout.look import Look, look
from harness.rollout.order import Placed, RolloutLimits
from harness.rollout.probe import run_probe
from harness.rollout.survey import HEALTH
from harness.rollout.transport import Busy, LostAnswer, Rejected
from harness.rollout.units import PatchUnit

# Seconds between two questions about a job, and between two looks: short at first, then longer.
_FIRST_POLL, _LONGEST_POLL = 2.0, 30.0
# For so long a server surely remembers jobs; CloudStack's job.expire.minutes is a day.
_REMEMBERED = 12 * 3600.0
# A KVM agent has as long for the patch of one VM.
_LONGEST_PATCH = 600.0
_IN_PROGRESS, _SUCCEEDED = 0, 1
_LONGEST_TEXT = 500

Waits: TypeAlias = Generator[float, None, None]


@dataclass(frozen=True)
class UnitOutcome:
    """The end of a unit's attempt.

    Attributes:
        verdict: what became of it.
        reason: one line.
        open: whether its job may still be under way.
        patched: whether this attempt patched it.
        put_back: whether it was not begun after all, and waits again.
    """

    verdict: Verdict
    reason: str = ""
    open: bool = False
    patched: bool = False
    put_back: bool = False


class _Over(Exception):
    def __init__(self, outcome: UnitOutcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


@dataclass
class RolloutWork:
    """The things that the courses of a rollout share.

    Attributes:
        api: of the server.
        journal: what is written.
        state: what the journal says.
        limits: of the run.
        catalogue: says which template may be patched.
        accept_unknown: whether templates that it knows nothing about are patched, too.
    """

    api: Api
    journal: RolloutJournal
    state: State
    limits: RolloutLimits
    catalogue: Catalogue
    accept_unknown: bool = False

    @property
    def settings(self) -> Settings:
        """The settings by which units are patched and verified."""
        return self.state.settings

    def look(self, unit: PatchUnit) -> Look:
        """Return a unit as it is now."""
        return look(self.api, unit, self.state.target.release, self.state.calls, self.state.minimum)

    def hinder(self, seen: Look) -> UnitOutcome | None:
        """Return why a unit is not patched now; None when it is."""
        if seen.unit is None:
            return UnitOutcome("skipped", "it is not there any more")
        if not any(member.state == "Running" for member in seen.unit.reached):
            return UnitOutcome(
                "skipped", "none of its VMs runs; they get the server's scripts when they start"
            )
        judged = self._judged(seen, seen.unit)
        if judged.standing == "current":
            return UnitOutcome("skipped", "it is current already")
        if judged.blocks:
            return UnitOutcome("error", f"not touched: {'; '.join(judged.blocks)}")
        return None

    def is_current(self, seen: Look) -> bool:
        """Say whether a unit has what is to be installed."""
        return seen.unit is not None and self._judged(seen, seen.unit).standing == "current"

    def _judged(self, seen: Look, unit: PatchUnit) -> UnitJudgement:
        return UnitJudge(seen.cloud, self.state.target, self.catalogue, self.accept_unknown).unit(unit)


@dataclass
class Course:
    """The way of one unit.

    Attributes:
        work: what all courses share.
        placed: the unit, as it was seen last.
        outcome: how it ended; None while it is under way.
    """

    work: RolloutWork
    placed: Placed
    outcome: UnitOutcome | None = field(default=None, init=False)

    @property
    def unit(self) -> PatchUnit:
        """The unit."""
        return self.placed.unit

    @property
    def standing(self) -> UnitProgress:
        """Its progress, as the journal has it."""
        return self.work.state.of(self.unit)

    def steps(self) -> Iterator[float]:
        """Go the unit's way from where the journal says that it is; yields seconds to wait."""
        try:
            yield from self._way()
        except _Over as over:
            self._end(over.outcome)

    def _way(self) -> Waits:
        if self.standing.phase == "waiting":
            self._begin()
            self._before()
            yield from self._submit(str(uuid.uuid4()))
        elif self.standing.phase in {"intended", "over"}:
            yield from self._find_again()
        if self.standing.phase != "ended":
            yield from self._follow()
        yield from self._verify()

    def _tell(self, kind: str, **fields: Json) -> float:
        return self.work.journal.about(self.unit, self.standing, kind, **fields).t

    def _begin(self) -> None:
        standing = self.standing
        standing.attempt += 1
        standing.phase, standing.verdict, standing.open, standing.job = "begun", "", False, ""
        templates = ", ".join(sorted({member.template or "unknown" for member in self.unit.reached}))
        about = {"title": self.unit.title, "type": self.unit.kind, "from": templates}
        standing.began = self._tell("scenario_started", **about, to=self.work.state.target.release)

    def _before(self) -> None:
        """Ask for health and run the probe: what is not well before is not patched."""
        failing: dict[str, list[str]] = {}
        if self._asks_for_health():
            try:
                failing = verify.failing_checks(self.work.api, self.unit)
            except Rejected as error:
                reason = f"not touched: its health cannot be read ({error}); --no-health goes without"
                raise _Over(UnitOutcome("error", reason)) from None
        probed = self._probe("before")
        if probed is not None and not probed.holds:
            raise _Over(
                UnitOutcome("error", f"not touched: its probe fails before the patch: {probed.reason}")
            )
        self.standing.before = verify.seen(self.unit, failing)
        self.standing.seen = self.unit
        self._tell("rollout_before", before=self.standing.before, seen=asdict(self.unit))

    def _asks_for_health(self) -> bool:
        return self.work.settings.health and bool(self.unit.routers) and HEALTH in self.work.state.calls

    def _probe(self, occasion: str) -> verify.PatchFinding | None:
        settings = self.work.settings
        if not settings.probe:
            return None
        probed = run_probe(settings.probe, self.unit, settings.probe_timeout, self.work.api.transport.hide)
        verdict: Verdict = "passed" if probed.well else "failed"
        found = verify.PatchFinding(verify.PROBE, verdict, probed.reason, probed.lines)
        self._check(found, occasion)
        return found

    def _check(self, found: verify.PatchFinding, occasion: str = "") -> None:
        more = {"reason": found.reason, "details": list(found.details), "occasion": occasion}
        self._tell("check", name=found.name, verdict=found.verdict, **more)

    def _submit(self, job: str) -> Waits:
        """Announce the call, send it, and find out what became of it; never sends it under a second id."""
        self._keep_to_the_window()
        self.standing.phase, self.standing.job = "intended", job
        announced = {"command": self.unit.command, "parameters": self._parameters()}
        self.standing.intended = self._tell("rollout_intent", job=job, **announced)
        yield from self._send(job)

    def _parameters(self) -> dict[str, str | bool]:
        if self.unit.kind == "system VM":
            return {"id": self.unit.id, "forced": True}
        return {"id": self.unit.id, "cleanup": False, "livepatch": True}

    def _send(self, job: str) -> Waits:
        """Send the announced call until the server has taken it; the server takes no second one under the same id."""
        wait = _FIRST_POLL
        while True:
            try:
                answer = self.work.api.change(self.unit.command, customjobid=job, **self._parameters())
            except LostAnswer as error:
                self._tell("rollout_lost", job=job, reason=str(error))
                if (yield from self._look_for(job)):
                    return
                pause = 0.0
            except Busy as error:
                if self._found(job):
                    return
                pause = error.after if error.after is not None else wait
                wait = min(wait * 2, 60.0)
            except Rejected as error:
                if self._found(job):
                    return
                raise _Over(UnitOutcome("failed", f"refused: {error}")) from None
            else:
                self._accept(str(answer.get("jobid") or ""), job)
                return
            if pause:
                yield pause
            self._keep_to_the_window()

    def _keep_to_the_window(self) -> None:
        if not self.work.limits.may_begin(self.work.api.clock.now(), self.placed.seconds):
            raise _Over(UnitOutcome("skipped", "the window has closed", put_back=True))

    def _accept(self, job: str, wanted: str) -> None:
        if not job:
            raise _Over(UnitOutcome("error", f"{self.unit.command} was answered without a job", open=True))
        self.standing.phase, self.standing.job = "accepted", job
        self.work.state.keeps_ids = job == wanted and self.work.state.keeps_ids is not False
        self._tell("rollout_accepted", job=job, own=job == wanted)

    def _found(self, job: str) -> bool:
        if self.work.api.job(job) is None:
            return False
        self._accept(job, job)
        return True

    def _look_for(self, job: str) -> Generator[float, None, bool]:
        """Ask for a job whose call was not answered, for a while: it may still be on its way.

        A server that does not keep the ids that are chosen for jobs cannot be asked: nobody knows, a person decides.
        """
        if self.work.state.keeps_ids is False:
            reason = "no answer, and this server keeps no job ids of ours: look at it, then 'resume --retry'"
            raise _Over(UnitOutcome("error", reason, open=True))
        left, wait = self.work.settings.grace, 1.0
        while not self._found(job):
            if left <= 0:
                return False
            yield min(wait, left)
            left, wait = left - wait, wait * 2
        return True

    def _find_again(self) -> Waits:
        """Find out what became of a call that was announced, but whose job was not seen, before a rollout ended.

        When the server knows no such job and the unit has not got what is to be installed, the call did not arrive, and
        is sent under its own id, which the server takes once. Jobs are forgotten after a day: then a person decides.
        """
        if (yield from self._look_for(self.standing.job)):
            return
        seen = self.work.look(self.unit)
        if self.work.is_current(seen):
            self._job_ended(_SUCCEEDED, "no job is known, but the unit has what was to be installed")
            return
        if self.work.journal.log.elapsed - self.standing.intended > _REMEMBERED:
            reason = "its call was announced long ago, no job is known, and it has not got what was to be installed"
            raise _Over(UnitOutcome("error", f"{reason}: look at it, then 'resume --retry'", open=True))
        self._keep_to_the_window()
        yield from self._send(self.standing.job)

    def _follow(self) -> Waits:
        """Wait for the end of the job, or, when the server has given the job up, of what it began."""
        clock, job, wait = self.work.api.clock, self.standing.job, _FIRST_POLL
        since, patience, told = clock.now(), self.work.settings.job_timeout, ""
        while True:
            row = self.work.api.job(job)
            if row is None:
                # Servers forget jobs after a day: what it did is what can be seen.
                self._job_ended(_SUCCEEDED, "the server does not know the job any more")
                return
            given_up = _given_up(row)
            if given_up and self.work.is_current(self.work.look(self.unit)):
                text = f"given up by the server ({given_up}), but the unit has what was to be installed"
                self._job_ended(_SUCCEEDED, text)
                return
            if row["jobstatus"] != _IN_PROGRESS and not given_up:
                self._judge_job(row)
                return
            if given_up and not told:
                told = self.work.api.transport.hide(given_up)[:_LONGEST_TEXT]
                since, patience = clock.now(), min(patience, _LONGEST_PATCH * max(self.unit.patches, 1))
            spent = (clock.now() - since).total_seconds()
            if spent >= patience:
                why = (
                    f"was given up by the server ({told})" if told else f"has not ended within {spent:.0f} s"
                )
                raise _Over(UnitOutcome("error", f"job {job} {why}, and may still be under way", open=True))
            yield wait
            wait = min(wait * 1.5, _LONGEST_POLL)

    def _job_ended(self, status: int, text: str) -> None:
        self._tell("rollout_job_ended", job=self.standing.job, status=status, text=text)
        if status == _SUCCEEDED:
            self.standing.phase = "ended"

    def _judge_job(self, row: dict[str, Json]) -> None:
        result = row.get("jobresult")
        said = result if isinstance(result, dict) else {"errortext": result} if result else {}
        text = self.work.api.transport.hide(str(said.get("errortext") or said.get("details") or ""))[
            :_LONGEST_TEXT
        ]
        well = (
            row["jobstatus"] == _SUCCEEDED
            and not row.get("jobresultcode")
            and said.get("success") is not False
        )
        self._job_ended(_SUCCEEDED if well else 2, text)
        if not well:
            raise _Over(
                UnitOutcome("failed", f"its job has failed: {text or 'no reason is given'}{self._now()}")
            )

    def _now(self) -> str:
        """Return what stands where after a failure, for people."""
        seen = self.work.look(self.unit).unit
        if seen is None:
            return "; it is not there any more"
        target = self.work.state.target
        told = []
        for member in seen.reached:
            has = target.is_installed(member.scripts, member.software)
            word = {True: "has it", False: "does not have it", None: "does not say what it has"}[has]
            told.append(f"{member.name} is {member.state} and {word}")
        return f"; now: {', '.join(told) or 'no VM'}"

    def _verify(self) -> Waits:
        """Look until everything holds, or not within the time; a pair has to stay as it is for a while."""
        found = yield from self._settled()
        is_pair = any(row.name == verify.ROLES for row in found)
        if is_pair and all(row.holds for row in found) and self.work.settings.soak:
            yield self.work.settings.soak
            found = yield from self._settled()
        for row in found:
            self._check(row)
        if all(row.holds for row in found):
            probed = self._probe("after")
            found = (*found, probed) if probed is not None else found
        failed = next((row for row in found if not row.holds), None)
        if failed is not None:
            raise _Over(UnitOutcome("failed", f"{failed.name}: {failed.reason}", patched=True))
        raise _Over(UnitOutcome("passed", patched=True))

    def _settled(self) -> Generator[float, None, tuple[verify.PatchFinding, ...]]:
        clock, wait = self.work.api.clock, _FIRST_POLL
        began = clock.now()
        while True:
            found = self._look()
            left = self.work.settings.settle - (clock.now() - began).total_seconds()
            if all(row.holds for row in found) or left <= 0:
                return found
            yield min(wait, max(left, 0.1))
            wait = min(wait * 1.5, _LONGEST_POLL)

    def _look(self) -> tuple[verify.PatchFinding, ...]:
        unit = self.work.look(self.unit).unit
        if unit is None:
            return (verify.PatchFinding(verify.STATE, "failed", "it is not there any more"),)
        before = self.standing.before
        found = verify.judge(unit, before, self.work.state.target)
        if not all(row.holds for row in found) or not unit.routers:
            return found
        if not self._asks_for_health():
            why = "--no-health" if not self.work.settings.health else f"this account may not call {HEALTH}"
            return (*found, verify.PatchFinding(verify.HEALTHY, "skipped", why))
        try:
            return (*found, verify.judge_health(unit, before, verify.failing_checks(self.work.api, unit)))
        except Rejected as error:
            return (*found, verify.PatchFinding(verify.HEALTHY, "error", str(error)))

    def _end(self, outcome: UnitOutcome) -> None:
        self.outcome = outcome
        standing = self.standing
        if outcome.put_back:
            standing.phase, standing.job = "waiting", ""
            self._tell("rollout_put_back", reason=outcome.reason)
            return
        self.finish(outcome)

    def finish(self, outcome: UnitOutcome) -> None:
        """Record how the unit's attempt ended."""
        standing = self.standing
        standing.phase, standing.verdict = "over", outcome.verdict
        standing.reason, standing.open = outcome.reason, outcome.open
        self._tell(
            "scenario_finished",
            verdict=outcome.verdict,
            reason=outcome.reason,
            open=outcome.open,
            patched=outcome.patched,
            seconds=round(self.work.journal.log.elapsed - standing.began, 3),
            unit_kind=self.unit.kind,
            patches=self.unit.patches,
        )

    def skip(self, outcome: UnitOutcome) -> UnitOutcome:
        """Record that a unit is not patched, without having begun it."""
        self._begin()
        self.finish(outcome)
        self.outcome = outcome
        return outcome


def _given_up(row: dict[str, Json]) -> str:
    """Return why a server ended a job that it has not seen the end of; empty for any other job.

    After an hour in which something waits behind it, and when the server restarts, CloudStack fails a job with a text
    in place of a result, while the VM is patched all the same.
    """
    result = row.get("jobresult")
    return result if row["jobstatus"] not in {_IN_PROGRESS, _SUCCEEDED} and isinstance(result, str) else ""
