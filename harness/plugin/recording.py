"""Recording: the hooks that turn what pytest does with scenarios into events, and the end of a run into reports."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import Exit, InfrastructureError, SysvmError, worth_another_attempt
from harness.plugin.choosing import FAILED, NEXT, cell_of, scenario_id
from harness.plugin.mark import scenario_of
from harness.plugin.options import option, release_after
from harness.plugin.session import PROBLEM_KEY, RUN, Problem, run_of
from harness.plugin.shards import ShardPlugin
from harness.plugin.workers import Workers
from harness.record import progress
from harness.record.severity import gravest_first

# The attribute of pytest's reports that names the scenario; pytest-xdist carries it over.
SCENARIO = "sysvm_scenario"
# Its attribute with the verdict of a part of a scenario, likewise.
VERDICT = "sysvm_verdict"
# Seconds that a scenario has taken so far, with the way to its VM.
_SPENT = pytest.StashKey[float]()
# Whether a scenario failed by its checks and by nothing else.
_BY_CHECKS = pytest.StashKey[bool]()
_INTERRUPTED = "interrupted by a person; the reports say what was known by then"


@dataclass(frozen=True)
class _Interrupts:
    """A plugin that remembers that a person ended the run."""

    config: pytest.Config

    def pytest_keyboard_interrupt(self) -> None:
        """Remember it, if a run has begun."""
        run = self.config.stash.get(RUN, None)
        if run is not None:
            run.interrupted = True


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.pluginmanager.register(_Interrupts(config), "sysvm-interrupts")
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(Workers(), "sysvm-workers")
    if option(config, "shard") is not None:
        config.pluginmanager.register(ShardPlugin(), "sysvm-shard")
    if option(config, "on") is not None and not hasattr(config, "workerinput"):
        from harness.plugin.cluster.coordinator import ClusterPlugin

        config.pluginmanager.register(ClusterPlugin(), "sysvm-cluster")
    config.addinivalue_line(
        "markers",
        "scenario(name, default=False, types=None, why='', companions=0, tags=(), needs=(), untouched=False): a "
        "scenario that goes into the report under that name; a default one runs when nobody chooses; types: the VM "
        "types that it is for, why: why no others; companions: how many copies of its VM it restores, reserved, beside "
        "system_vm; tags: further words by which --scenario finds it; needs: 'network' or 'root'; untouched: it leaves "
        "its VM as it was, so that the next one such may have it",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Record the begin of a scenario, and what comes after it."""
    item.stash[NEXT] = nextitem
    identifier = scenario_id(item)
    if identifier is None:
        return (yield)
    cell, declared, events = cell_of(item), scenario_of(item), run_of(item.config).events
    # Whatever happens until the scenario's last fixture is gone belongs to it, also the way to its golden snapshot.
    with events.about(scenario=identifier, cell=str(cell)), progress.about(identifier):
        events.emit(
            "scenario_started", title=(declared.title if declared else "") or identifier, type=cell.vm_type,
            file=_file_of(item), **{"from": cell.from_release, "to": release_after(item.config)},
        )  # fmt: skip
        return (yield)


def _file_of(item: pytest.Item) -> str:
    """Return the file of a scenario: from the package's root for ours, else from pytest's root."""
    for root in (Path(__file__).parents[2], item.config.rootpath):
        if item.path.is_relative_to(root):
            return str(item.path.relative_to(root))
    return str(item.path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record the end of a scenario, and keep the first error of the machine or the user."""
    report = yield
    identifier = scenario_id(item)
    if identifier is None:
        return report
    error = call.excinfo.value if call.excinfo else None
    verdict = _verdict(report, error)
    setattr(report, SCENARIO, identifier)
    setattr(report, VERDICT, verdict)
    item.stash[_SPENT] = item.stash.get(_SPENT, 0.0) + report.duration
    run = run_of(item.config)
    if isinstance(error, SysvmError) and run.problem is None:
        run.problem = Problem(error.diagnostics(), int(error.exit_status))
    if report.failed:
        item.stash[FAILED] = True
    ended = report.when == "call" or not report.passed
    if ended:
        reason = "" if error is None else (str(error).strip().splitlines() or [type(error).__name__])[0]
        run.events.emit(
            "scenario_finished",
            scenario=identifier,
            verdict=verdict,
            reason=reason,
            seconds=item.stash[_SPENT],
            by_checks=item.stash.get(_BY_CHECKS, False),
            exit_status=int(error.exit_status) if isinstance(error, SysvmError) else None,
            once_more=worth_another_attempt(error),
        )
    return report


def _verdict(report: pytest.TestReport, error: BaseException | None) -> str:
    """Return the word for a part of a scenario.

    Only what was tried can have failed. A fixture that breaks, a machine that does not do its part and an input that
    cannot be meant are errors, wherever in a scenario they come.
    """
    if not report.failed:
        return str(report.outcome)
    ours = isinstance(error, SysvmError) and error.exit_status != Exit.FAILED
    return "error" if ours or report.when != "call" else "failed"


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a scenario in which a check did not hold; with nothing but what the host made, nobody has failed.

    What a check has found stands whatever the scenario ends with: an error that comes later is told behind it. A check
    is recorded as failed only while the host does its part.
    """
    outcome: object = None
    later: BaseException | None = None
    try:
        outcome = yield
    except (Exception, pytest.skip.Exception) as error:
        later = error
    trial: Any = pyfuncitem.funcargs.get("live_patch")
    # Another project's fixture may have this name, too.
    failures = getattr(trial, "failures", None) or []
    told = gravest_first(failures)
    if later is not None and set(failures) <= getattr(trial, "by_host", set()):
        raise later
    if later is not None:
        words = later.diagnostics() if isinstance(later, SysvmError) else f"{type(later).__name__}: {later}"
        pytest.fail("\n".join([*told, f"after that the scenario broke off: {words}"]), pytrace=False)
    if failures:
        if set(failures) <= getattr(trial, "by_host", set()):
            raise InfrastructureError("\n".join(told), hint="make it again while the host has less to do")
        pyfuncitem.stash[_BY_CHECKS] = True
        pytest.fail("\n".join(told), pytrace=False)
    return outcome


@pytest.hookimpl(trylast=True)  # the workers are gone by then, and have said all that they know
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Close the event log and write the reports."""
    run = session.config.stash.get(RUN, None)
    if run is None:
        return
    if hasattr(session.config, "workeroutput"):
        if run.problem is not None:
            session.config.workeroutput[PROBLEM_KEY] = (run.problem.text, run.problem.exit_status)
        run.events.close()
        return
    from harness.report import write

    verdict = {0: "passed", 1: "failed"}.get(int(exitstatus), "error")
    reason = run.problem.text if run.problem else _INTERRUPTED if run.interrupted else ""
    run.events.emit("run_finished", verdict=verdict, reason=reason)
    run.events.close()
    write(run.results)
