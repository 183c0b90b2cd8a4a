"""Recording: the hooks that turn what pytest does with scenarios into events, and the end of a run into reports."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from bundle.errors import SysvmError
from harness.plugin.choosing import NEXT, cell_of, scenario_id
from harness.plugin.mark import scenario_of
from harness.plugin.options import release_after
from harness.plugin.run import PROBLEM_KEY, RUN, Problem, run_of
from harness.plugin.workers import Workers
from harness.record.severity import gravest_first


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(Workers(), "sysvm-workers")
    config.addinivalue_line(
        "markers",
        "scenario(name, default=False, types=None, why='', companions=0, tags=(), needs=()): a scenario that goes into "
        "the report under that name; a default one runs when nobody chooses; types: the VM types that it is for, why: "
        "why no others; companions: how many copies of its VM it restores, reserved, beside system_vm; tags: further "
        "words by which --scenario finds it; needs: 'network' or 'root'",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Record the begin of a scenario, and what comes after it."""
    item.stash[NEXT] = nextitem
    identifier = scenario_id(item)
    if identifier is not None:
        cell = cell_of(item)
        declared = scenario_of(item)
        title = (declared.title if declared else "") or identifier
        run_of(item.config).events.emit(
            "scenario_started", scenario=identifier, title=title, type=cell.vm_type,
            **{"from": cell.from_release, "to": release_after(item.config)},
        )  # fmt: skip
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record the end of a scenario, and keep the first error of the machine or the user."""
    report = yield
    identifier = scenario_id(item)
    if identifier is None:
        return report
    run = run_of(item.config)
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, SysvmError) and run.problem is None:
        run.problem = Problem(error.diagnostics(), int(error.exit_status))
    ended = report.when == "call" or not report.passed
    if ended:
        verdict = "passed" if report.passed else "skipped" if report.skipped else "failed"
        if report.failed and report.when != "call":
            verdict = "error"
        reason = "" if error is None else (str(error).strip().splitlines() or [type(error).__name__])[0]
        run.events.emit(
            "scenario_finished", scenario=identifier, verdict=verdict, reason=reason, seconds=report.duration
        )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a scenario in which a check did not hold."""
    outcome = yield
    trial: Any = pyfuncitem.funcargs.get("live_patch")
    if trial is not None and trial.failures:
        pytest.fail("\n".join(gravest_first(trial.failures)), pytrace=False)
    return outcome


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
    reason = run.problem.text if run.problem else ""
    run.events.emit("run_finished", verdict=verdict, reason=reason)
    run.events.close()
    write(run.results)
