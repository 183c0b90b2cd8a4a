"""From what a person asked for to a plan, a run, or the resumption of one."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bundle import __version__
from bundle import catalogue as catalogue_module
from bundle.errors import Exit, InfrastructureError, UsageError
from bundle.sink import tell, tell_json
from harness.host.locks import try_exclusive
from harness.record import results
from harness.record.results import ResultsFolder
from harness.report import PAGE
from harness.report.document import document
from harness.rollout import journal as journals
from harness.rollout import report
from harness.rollout.access import read_access
from harness.rollout.api import Api
from harness.rollout.clock import RolloutClock, WallClock, seconds_of, window_of
from harness.rollout.course import RolloutWork
from harness.rollout.history import measured
from harness.rollout.journal import RolloutJournal, Settings, State, UnitProgress
from harness.rollout.order import RolloutLimits
from harness.rollout.plan import Choice, Planner, RolloutPlan
from harness.rollout.rows import text
from harness.rollout.run import AtWindowEnd, RolloutResult, Run
from harness.rollout.select import matches, read_words
from harness.rollout.survey import TO_RUN, permitted, survey
from harness.rollout.target import Wanted, find_target, same_release
from harness.rollout.transport import Transport
from harness.rollout.wire import CsTransport


@dataclass(frozen=True)
class Asked:
    """A command, as a person asked for it.

    Attributes:
        options: of the command, as they were said; None for what was not.
        transport: the way to the server.
        endpoint: its address.
        say: tells a person what happens.
        clock: what tells the time.
    """

    options: Mapping[str, Any]
    transport: Transport
    endpoint: str
    say: Callable[[str], None]
    clock: RolloutClock = field(default_factory=WallClock)

    @classmethod
    def of(cls, options: Mapping[str, Any], say: Callable[[str], None]) -> Asked:
        """Return what the options of a command ask for; nothing is sent yet.

        Raises:
            UsageError: an option cannot be meant, or there is no account.
        """
        for name in ("pause", "patience", "job_timeout", "grace", "settle", "soak", "probe_timeout"):
            if options.get(name):
                seconds_of(options[name])
        access = read_access(
            options["api"],
            options["region"],
            options["user"],
            options["domain"],
            plain_http=options["plain_http"],
        )
        return cls(options, CsTransport(access), access.endpoint, say)

    def on(self, clock: RolloutClock) -> Asked:
        """Return the same on another clock."""
        return replace(self, clock=clock)

    @property
    def root(self) -> Path:
        """The folder of all runs."""
        return Path(self.options["root"])

    @property
    def api(self) -> Api:
        """The server's API."""
        return Api(self.transport, self.clock, seconds_of(self.options["patience"]), self.say)

    def limits(self, before: Mapping[str, Any]) -> RolloutLimits:
        """Return the limits of a run: as they were asked for now, else as they were before.

        Raises:
            UsageError: one cannot be meant.
        """
        asked = {**before, **limits_asked(self.options)}
        window = asked.get("window")
        return RolloutLimits(
            at_once=asked.get("at_once") or 1,
            pause=seconds_of(asked["pause"]) if asked.get("pause") else 0.0,
            window=window_of(window, asked.get("timezone") or "") if window else None,
            most=self.options.get("most"),
            max_failures=asked.get("max_failures") or 1,
        )


def limits_asked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits that were said, as they were said; how many units may begin is each run's own."""
    names = ("at_once", "pause", "window", "timezone", "max_failures")
    return {name: options[name] for name in names if options.get(name) is not None}


def settings_of(options: Mapping[str, Any]) -> Settings:
    """Return how units are patched and verified, as the options say."""
    return Settings(
        job_timeout=seconds_of(options["job_timeout"]),
        grace=seconds_of(options["grace"]),
        settle=seconds_of(options["settle"]),
        soak=seconds_of(options["soak"]),
        health=options["health"],
        probe=options["probe"],
        probe_timeout=seconds_of(options["probe_timeout"]),
    )


def plan_of(asked: Asked) -> RolloutPlan:
    """Return the plan that was asked for; only reads.

    Raises:
        UsageError: an option cannot be meant.
        Rejected: the server says no.
        InfrastructureError: it does not answer.
    """
    options = asked.options
    limits = asked.limits({})
    choice = Choice(
        only=read_words(options["only"]),
        exclude=read_words(options["exclude"]),
        canaries=read_words(options["canary"]),
        approved=_approved(options["approved"]),
        accept_unknown=options["accept_unknown"],
    )
    cloud = survey(asked.api)
    wanted = Wanted(
        options["bundle"],
        options["from_bundle"],
        options["scripts_digest"] or "",
        options["script"],
        options["expect_release"] or "",
    )
    target = find_target(cloud.release, wanted)
    past = measured(asked.root, cloud.release)
    return Planner(choice, limits, past, asked.endpoint, asked.clock.now()).plan(cloud, target)


def _approved(path: Path | None) -> frozenset[str] | None:
    """Return the ids of the units that a plan of ``plan --json`` patches."""
    if path is None:
        return None
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["units"]
        return frozenset(row["id"] for row in rows if row["standing"] == "patch")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is no plan", hint="make one with 'sysvm rollout plan --json'") from None


def calls_of(plan: RolloutPlan) -> Iterator[str]:
    """Yield every call that a run would make to change something, in order."""
    for placed in plan.order:
        more = "forced=true" if placed.unit.kind == "system VM" else "cleanup=false livepatch=true"
        yield f"{placed.unit.command} id={placed.unit.id} {more}  # {placed.unit.title}"


def begin(plan: RolloutPlan, asked: Asked, at_window_end: str, *, as_json: bool = False) -> int:
    """Run a plan in a new folder of results, and return the exit status.

    Raises:
        UsageError: the account may not do it.
        InfrastructureError: the server does not answer, or the folder cannot be written.
    """
    missing = [name for name in TO_RUN if name not in plan.cloud.calls]
    if missing:
        raise UsageError(f"this account may not call {', '.join(missing)}")
    folder = results.create(asked.root)
    state = State(
        placed=plan.order,
        target=plan.target,
        settings=settings_of(asked.options),
        limits={**limits_asked(asked.options), "accept_unknown": asked.options["accept_unknown"]},
        api=plan.api,
        units={row.unit.id: UnitProgress() for row in plan.order},
        calls=_needed(plan.cloud.calls),
        minimum=plan.cloud.minimum,
    )
    with _alone(folder), journals.create(folder.events) as log:
        RolloutJournal(log).plan(state, _facts(plan), _said(asked.options))
        result = _go(folder, RolloutJournal(log), state, asked, at_window_end, frozenset())
    return _tell(folder, result, asked.clock, as_json=as_json)


def _needed(calls: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    names = {*TO_RUN, "getRouterHealthCheckResults"}
    return {name: parameters for name, parameters in calls.items() if name in names}


def _facts(plan: RolloutPlan) -> dict[str, str]:
    return {
        "server": plan.api,
        "release": plan.cloud.release,
        "digest": ", ".join(plan.target.digests) or "none given: judged by release",
        "units": str(len(plan.order)),
        "tool": __version__,
        "by": f"{_user()}@{socket.gethostname()}",
    }


def _said(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that were said, for people."""
    named = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    return {
        name: ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in named.items()
        if value not in (None, "", (), False)
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())


def resume(
    run: str, asked: Asked, at_window_end: str, retry: tuple[str, ...], *, as_json: bool = False
) -> int:
    """Go on with a rollout, and return the exit status.

    Raises:
        UsageError: there is none, the server is another one now, or a word of ``retry`` means no failed unit.
        InfrastructureError: the server does not answer, or somebody else runs it.
    """
    folder = results.find(run, asked.root)
    with _alone(folder):
        log, events = journals.reopen(folder.events)
        with log:
            state = journals.fold(events, folder.name)
            _same_server(state, asked)
            again = _again(state, read_words(retry))
            result = _go(folder, RolloutJournal(log), state, asked, at_window_end, again)
    return _tell(folder, result, asked.clock, as_json=as_json)


def _same_server(state: State, asked: Asked) -> None:
    if state.api != asked.endpoint:
        raise UsageError(f"the rollout is of {state.api}, not of {asked.endpoint}")
    release = text(asked.api.one("listCapabilities", "capability"), "cloudstackversion")
    if not same_release(release, state.target.release):
        raise UsageError(
            f"the server is of {release} now, the rollout of {state.target.release}; begin a new one"
        )
    missing = [name for name in TO_RUN if name not in permitted(asked.api)]
    if missing:
        raise UsageError(f"this account may not call {', '.join(missing)}")


def _again(state: State, words: tuple[str, ...]) -> frozenset[str]:
    if not words:
        return frozenset()
    failed = [
        row.unit for row in state.placed if state.of(row.unit).verdict in {"failed", "error", "skipped"}
    ]
    found = frozenset(unit.id for unit in failed if matches(unit, words))
    if not found:
        names = ", ".join(unit.name for unit in failed[:10]) or "none"
        raise UsageError("--retry means no unit that has failed", hint=f"those are: {names}")
    return found


@contextmanager
def _alone(folder: ResultsFolder) -> Iterator[None]:
    """Hold a rollout alone: two that run it at once would patch twice."""
    handle = try_exclusive(folder.folder / ".lock")
    if handle is None:
        raise InfrastructureError(f"{folder.name} is being run by another process")
    try:
        yield
    finally:
        os.close(handle)


def _go(
    folder: ResultsFolder,
    journal: RolloutJournal,
    state: State,
    asked: Asked,
    at_window_end: str,
    retry: frozenset[str],
) -> RolloutResult:
    limits = asked.limits(state.limits)
    accept_unknown = bool(state.limits.get("accept_unknown"))
    work = RolloutWork(asked.api, journal, state, limits, catalogue_module.load(), accept_unknown)
    policy: AtWindowEnd = "stop" if at_window_end == "stop" else "wait"
    asked.say(f"rollout {folder.name}")

    def wants_end() -> bool:
        return isinstance(asked.clock, WallClock) and asked.clock.wants_end

    try:
        return Run(work, policy, wants_end, asked.say, retry).go()
    finally:
        report.write(folder)


def _tell(folder: ResultsFolder, result: RolloutResult, clock: RolloutClock, *, as_json: bool) -> int:
    """Print what stands where, and return the exit status."""
    told = report.load(folder)
    if as_json:
        tell_json(document(told.report))
    else:
        for line in report.lines(told):
            tell(line)
        tell(f"report: {folder.folder / PAGE}")
    return _status(result, clock)


def _status(result: RolloutResult, clock: RolloutClock) -> int:
    if result.verdict != "passed":
        return Exit.FAILED
    return Exit.INTERRUPTED if isinstance(clock, WallClock) and clock.wants_end else Exit.OK
