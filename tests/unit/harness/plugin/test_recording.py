"""Whatever happens within a scenario carries it: steps have scenario, cell and VM."""

from __future__ import annotations

from pathlib import Path

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
