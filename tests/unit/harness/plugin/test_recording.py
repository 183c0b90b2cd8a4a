"""Whatever happens within a scenario carries it: steps have scenario, cell and VM."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from bundle.errors import InfrastructureError
from harness.plugin import recording
from harness.record import progress
from harness.record.events import EventLog, read
from harness.record.progress import Narrator


def test_steps_carry_scenario_cell_and_vm(tmp_path: Path, capsys) -> None:
    with EventLog(tmp_path / "e.jsonl") as log:
        with log.about(scenario="S", cell="router-from-4.21"), progress.about("S"):
            with Narrator(log).step("boot", "r-10-VM"):
                log.emit("restored")
            log.emit("check", scenario="another", name="x")
        log.emit("run_finished")
    _, started, restored, finished, check, end = read(tmp_path / "e.jsonl")
    for event in (started, restored, finished):
        assert (event["scenario"], event["cell"]) == ("S", "router-from-4.21")
    assert (started["name"], started["vm"], finished["verdict"]) == ("boot", "r-10-VM", "passed")
    assert check["scenario"] == "another"
    assert end.get("scenario") is None
    assert capsys.readouterr().err.startswith("[S] r-10-VM: boot: ")


def ended(failures, by_host, broken_off=None):
    """Return what the end of a scenario raises, with such a trial, whatever broke it off."""
    trial = SimpleNamespace(failures=failures, by_host=set(by_host))
    item = SimpleNamespace(funcargs={"live_patch": trial}, stash=pytest.Stash())
    hook = recording.pytest_pyfunc_call(item)
    next(hook)
    with pytest.raises(
        (InfrastructureError, OSError, pytest.fail.Exception, pytest.skip.Exception)
    ) as raised:
        hook.throw(broken_off) if broken_off else hook.send(True)
    return raised.type, str(raised.value), item.stash.get(recording._BY_CHECKS, False)


def test_what_the_host_itself_made_fails_nobody():
    clock, rules = "kernel.clock: fell behind", "rules.iptables: 1 gone"
    assert ended([clock], [clock]) == (InfrastructureError, clock, False)
    kind, told, by_checks = ended([clock, rules], [clock])
    assert (kind, by_checks) == (pytest.fail.Exception, True)
    assert {clock, rules} == set(told.splitlines())


@pytest.mark.parametrize("error", [InfrastructureError("no umount"), OSError("no umount")])
def test_an_error_hides_no_check_that_had_failed_before(error):
    rules = "rules.iptables: 1 gone"
    kind, told, by_checks = ended([rules], [], error)
    assert (kind, by_checks) == (pytest.fail.Exception, False)
    assert told.splitlines()[0] == rules
    assert "broke off" in told.splitlines()[1] and "no umount" in told.splitlines()[1]


@pytest.mark.parametrize("failures", [[], ["kernel.clock: fell behind"]])
def test_an_error_stays_one_where_no_check_had_failed(failures):
    error = InfrastructureError("no umount")
    assert ended(failures, failures, error) == (InfrastructureError, str(error), False)


def test_a_skip_stays_one_where_no_check_had_failed():
    skip = pytest.skip.Exception("no rules")
    assert ended([], [], skip)[0] is pytest.skip.Exception
    kind, told, by_checks = ended(["rules.iptables: 1 gone"], [], skip)
    assert (kind, by_checks) == (pytest.fail.Exception, False)
    assert told.splitlines()[0] == "rules.iptables: 1 gone"
