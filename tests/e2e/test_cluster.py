"""A run on hosts with real VMs: network namespaces of this machine are the hosts, a core each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.plugin.planning import plan
from harness.record.events import read
from harness.report import build
from tests.cluster import Cluster, outcome, wait_until

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(
        "SYSVM_CLUSTER_VMS" not in os.environ, reason="nox -s cluster runs it: twenty minutes"
    ),
]
# Short ones; the first two are of a machine that stays as it was, and of one that is patched.
SCENARIOS = "S05,S02-shortened-upload-refused,S51,S53,S41,S38"


def lend_image(caches):
    """Put the template image of the default release into the caches of hosts."""
    done = subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()",
         "image", "build", "--release", "4.21"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (disk,) = (line.split()[1] for line in done.stdout.splitlines() if line.startswith("disk "))
    image = Path(disk).parent
    for cache in caches:
        shutil.copytree(image, cache / "images" / image.name)


@pytest.fixture
def cluster():
    folder = Path(f"/tmp/sysvm-vms-{os.getpid()}")
    with Cluster(folder, ["h1", "h2", "h3"]) as made:
        hosts = (made.middle, *made.hosts.values())
        lend_image([host.cache for host in hosts])
        for number, name in enumerate(made.hosts):
            made.hosts[name].cores = str(number % os.cpu_count())
        yield made


def run(cluster, results, *words):
    return cluster.sysvm("run", "--scenario", SCENARIOS, "--results", str(results), *words)


def report_of(results):
    return build(read(results / "latest/events.jsonl"))


def verdicts(results):
    return {row.id: row.verdict for row in report_of(results).scenarios}


def planned():
    """Return the scenarios that there are to make."""
    return {row.id for row in plan([f"--scenario={SCENARIOS}"])}


def emulators(host):
    """Return the machines that run in a host's namespace."""
    lines = []
    for pid in host.pids():
        try:
            lines.append(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            continue
    return [line for line in lines if b"qemu-system" in line]


def test_hosts_come_to_the_same_verdicts_as_one_machine(cluster, tmp_path):
    cluster.start("h1", "h2")
    there, here = tmp_path / "there", tmp_path / "here"
    status, _, told = outcome(run(cluster, there, "--on", cluster.address), 1200)
    assert status == 0, told
    status, _, errors = outcome(run(cluster, here, "--workers", "2"), 1200)
    assert status == 0, errors
    assert verdicts(there) == verdicts(here)
    assert verdicts(there).keys() == planned()
    print(f"\nhosts {report_of(there).seconds:.1f} s, one machine {report_of(here).seconds:.1f} s")
    # One host has made the golden snapshot, the other one has fetched it.
    assert "is fetched from" in told
    made = [event for event in read(there / "latest/events.jsonl") if event.get("name") == "freeze"]
    assert len([event for event in made if event.kind == "step_finished"]) == 1
    logs = [path for row in report_of(there).scenarios for path in row.logs]
    assert logs
    assert all((there / "latest" / path).is_file() for path in logs)
    for name in ("h1", "h2"):
        assert cluster.hosts[name].leftovers() == []
        assert emulators(cluster.hosts[name]) == []


def test_a_host_that_dies_with_its_vm_costs_one_scenario(cluster, tmp_path):
    cluster.start("h1", "h2", "h3")
    results = tmp_path / "results"
    running = run(cluster, results, "--on", cluster.address)

    def at_work():
        log = results / "latest/events.jsonl"
        events = read(log) if log.exists() else []
        begun = {event["scenario"] for event in events if event.kind == "restored" and event["host"] == "h3"}
        return begun - {event["scenario"] for event in events if event.kind == "scenario_finished"}

    (lost,) = wait_until("the third host is at a scenario", at_work, 900)
    cluster.hosts["h3"].die()
    cluster.started.pop("h3").communicate()
    status, _, errors = outcome(running, 1200)
    assert status == 0, errors
    rows = report_of(results).scenarios
    assert len(rows) == len({row.id for row in rows})
    assert {row.id for row in rows} == planned()
    assert {row.verdict for row in rows} == {"passed"}
    assert {row.id for row in rows if row.retried} == {lost}
    for name in ("h1", "h2"):
        assert cluster.hosts[name].leftovers() == []
        assert emulators(cluster.hosts[name]) == []
