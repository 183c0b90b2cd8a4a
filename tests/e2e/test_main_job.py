"""The main job as a person runs it, and the proof that its judge is awake."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema

from bundle import catalogue
from harness.record import results
from harness.record.events import read
from harness.report import load
from harness.report.document import schema
from harness.report.timeline import drawings
from tests import recorded
from tests.agreement import seen, told

RECORDED = Path(__file__).parents[1] / "data/runs/main-job/events.jsonl"


def shape(events):
    """What the views of a run rest on, besides fields of events: names of steps, of phases and of checks."""
    names = {
        (event.kind, event["name"]) for event in events if event.kind in {"step_finished", "check", "probe"}
    }
    phases = {
        ("phase", line.split()[1])
        for event in events
        if event.kind == "patch"
        for line in event["log"]
        if line.startswith("@")
    }
    return names | phases


def test_the_main_job_passes_and_leaves_its_reports(sysvm, tmp_path, nothing_left):
    done = sysvm("run", "--json", "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    by_id = {row["id"]: row for row in report["scenarios"]}
    before = catalogue.load().default_from
    patched = by_id[f"router-from-{before}-live-patch"]
    rolled_back = by_id[f"router-from-{before}-S01-rollback"]
    assert set(patched["services"]) == {"haproxy", "apache2", "dnsmasq"}
    assert patched["rules"] > 0
    for row in (patched, rolled_back):
        passed = {check["name"] for check in row["checks"] if check["verdict"] == "passed"}
        assert {"services.up", "request.DNS knows vm1", "request.DHCP gives 10.1.1.50 to vm1"} <= passed
    assert {"services.renewed", "files.installed", "patch.no-op"} <= _passed(patched)
    assert {"files.kept", "rollback.reason", "rollback.converges"} <= _passed(rolled_back)
    latest = tmp_path / "results" / "latest"
    suites = ET.parse(latest / "junit.xml").getroot()
    assert len(list(suites.iter("testcase"))) >= 2
    assert not list(suites.iter("failure"))
    assert "router-from" in (latest / "report.html").read_text()
    _proved(latest, patched, rolled_back)
    known = recorded.fields(latest / "events.jsonl")
    lacking = {
        kind: names - known.get(kind, set()) for kind, names in recorded.fields(recorded.RUN.events).items()
    }
    assert not any(lacking.values()), f"the log lacks what one had that was recorded before: {lacking}"
    _agrees(sysvm, seen(latest / "events.jsonl", patched["id"]), before)
    kinds = [json.loads(line)["kind"] for line in (latest / "events.jsonl").read_text().splitlines()]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_finished"
    # On a slow host the console asks before the VM has got its name.
    assert " login:" in (latest / "logs" / "golden" / "boot-console.log").read_text()
    assert (latest / "logs" / f"router-from-{before}-S01-rollback" / "livepatch.log").stat().st_size > 0


def _agrees(sysvm, rows, before):
    """``bundle diff`` of the two payloads said of each service what the run then saw."""
    for name, release in (("old", before), ("new", catalogue.load().default)):
        assert sysvm("bundle", "build", "--release", release, "-o", name).returncode == 0
    said = sysvm("bundle", "diff", "--json", "old", "new")
    assert said.returncode == 0, said.stderr
    expected = told(json.loads(said.stdout), "router", "router")
    assert set(expected.values()) == {"reloaded", "restarted"}
    assert rows[0] == expected


def _proved(latest, patched, rolled_back):
    """What the views make of a genuine log: steps with VM, patches with the script's words, digests, unique names."""
    document = json.loads((latest / "run.json").read_text())
    jsonschema.Draft202012Validator(schema()).validate(document)
    assert all(subject["bundle"]["content_digest"] for subject in document["subjects"])
    for row in (patched, rolled_back):
        assert {"observe before", "live patch", "prove the rules"} <= {
            step["name"] for step in row["steps"] if step["vm"] == "r-10-VM"
        }
        assert row["logs"]
        assert row["seconds"] > 1
    failed = rolled_back["patches"][0]
    assert not failed["success"]
    assert any("rolling back" in text for _, text in failed["said"])
    report = load(results.find(latest))
    for row in report.scenarios:
        first = drawings(row)[0]
        assert first.occasion == "first patch"
        assert {"steps", "script", "haproxy", "load balancer 192.0.2.20:80"} <= {
            lane.label for lane in first.lanes
        }
    lacking = shape(read(RECORDED)) - shape(read(latest / "events.jsonl"))
    assert lacking == set(), (
        f"the views are tested on {RECORDED}, which has what a run has no more: {lacking}"
    )
    cases = [
        (case.get("classname"), case.get("name")) for case in ET.parse(latest / "junit.xml").iter("testcase")
    ]
    assert len(set(cases)) == len(cases)


def test_a_vm_that_booted_from_cd_on_an_older_debian_is_patched(sysvm, nothing_left):
    done = sysvm("run", "--json", "--from", "4.16", "--scenario", "live-patch", "--workers", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(done.stdout)["scenarios"]
    assert row["id"] == "router-from-4.16-live-patch"
    assert {"services.renewed", "files.installed", "files.removed", "version.agreement"} <= _passed(row)


def _passed(row):
    return {check["name"] for check in row["checks"] if check["verdict"] == "passed"}


def test_a_rollback_that_restores_nothing_is_caught(lab, live_patch, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(lab.broken_bundle(), bundle)
    script = bundle / "patch-sysvms.sh"
    restoring = 'rename_all in backup "${REPLACED[@]}"'
    assert script.read_text().count(restoring) == 1, "the script has no such line to break"
    script.write_text(script.read_text().replace(restoring, ":"))

    live_patch.patch(bundle, expected="kept", trouble=("haproxy",))

    found = "\n".join(live_patch.failures)
    live_patch.failures.clear()
    assert "files.kept" in found
    assert "/etc/haproxy/conf.d/00-cloud.cfg" in found
