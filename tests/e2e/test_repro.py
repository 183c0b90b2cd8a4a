"""Repeating a failed scenario: the same cell, with a look into its VM before and after."""

from __future__ import annotations

from bundle import catalogue
from harness.record.events import EventLog


def test_a_failed_scenario_is_repeated_with_a_look_before_and_after(sysvm, tmp_path, nothing_left):
    before = catalogue.load().default_from
    scenario = f"router-from-{before}-S41-unknown-type-refused"
    folder = tmp_path / "results" / "earlier"
    folder.mkdir(parents=True)
    with EventLog(folder / "events.jsonl") as log:
        log.emit("options", options={"--to": catalogue.load().default})
        log.emit(
            "scenario_started",
            scenario=scenario,
            type="router",
            **{"from": before, "to": catalogue.load().default},
        )
        log.emit("scenario_finished", scenario=scenario, verdict="failed", reason="", seconds=1.0)
        log.emit("run_finished", verdict="failed", reason="")

    done = sysvm("repro", "--run", "earlier", "--command", "cat /etc/hostname; ls /root/.ssh")

    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stderr.splitlines()
    assert f"repeating {scenario} of earlier" in said
    look = [line for line in said if "ended with status 0" in line]
    assert [line.split(":")[0] for line in look] == ["before", "after"]
    assert said.count("  r-10-VM") == said.count("  authorized_keys") == 2
    assert scenario in done.stdout
    assert (tmp_path / "results" / "latest" / "logs" / scenario / "cloud.log").exists()
