"""Shipped scenarios on a router: a part of them in CI, all with ``nox -s e2e -- --all-scenarios``."""

from __future__ import annotations

import json

import pytest

from tests.e2e.in_ci import ELSEWHERE, IN_CI


def _run(sysvm, *arguments):
    done = sysvm("run", "--json", "--seed", "20261127", *arguments, deadline=3000)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    rows = json.loads(done.stdout)["scenarios"]
    failed = {row["id"]: row["reason"] for row in rows if row["verdict"] not in ("passed", "skipped")}
    return rows, failed


def test_scenarios_of_ci_pass_on_a_router(sysvm, nothing_left):
    wanted = [name for name in IN_CI if name not in ELSEWHERE]
    rows, failed = _run(sysvm, "--scenario", ",".join(wanted))
    assert failed == {}
    # A random moment that came too late has interrupted nothing; this seed draws others.
    late = [
        row["id"]
        for row in rows
        for check in row["checks"]
        if check["name"] == "moment.came" and check["verdict"] != "passed"
    ]
    assert late == []
    played = {row["id"] for row in rows if row["verdict"] == "passed"}
    assert all(any(name in identifier for identifier in played) for name in wanted)


@pytest.mark.parametrize("vm_type", ["router", "vpcrouter", "ilbvm", "secstorage", "consoleproxy"])
@pytest.mark.timeout(3600)
def test_every_scenario_passes_on_each_type(sysvm, request, vm_type, nothing_left):
    if not request.config.getoption("--all-scenarios", default=False):
        pytest.skip("only with --all-scenarios")
    _, failed = _run(sysvm, "--scenario", "all", "--type", vm_type)
    assert failed == {}
