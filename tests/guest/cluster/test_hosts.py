"""A run on hosts in network namespaces: verdicts, deaths, ends, and what is left; stand-ins take the place of VMs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from harness.record.events import read
from harness.report import build
from tests.cluster import Cluster, outcome, wait_until

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    # Short: sockets are in it.
    folder = Path(f"/tmp/sysvm-cluster-{os.getpid()}")
    notes = tmp_path_factory.mktemp("notes") / "notes"
    with Cluster(folder, ["h1", "h2", "h3"]) as made:
        for host in (made.middle, *made.hosts.values()):
            host.environment |= {
                "STAND_IN_NOTES": str(notes),
                "STAND_IN_SECONDS": "0.3",
                "STAND_IN_SEATS": "3",
            }
        made.hosts["h2"].environment["STAND_IN_POOR"] = "1"
        made.start("h1", "h2", "h3")
        yield made


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def report_of(results):
    return build(read(results / "latest/events.jsonl"))


def finished(results):
    log = results / "latest/events.jsonl"
    return [event for event in read(log) if event.kind == "scenario_finished"] if log.exists() else []


def leftovers(cluster, *names):
    return [left for name in names for left in cluster.hosts[name].leftovers()]


def process_of(cluster):
    """Return the process of the run that is under way."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in cluster.middle.pids()}
    return next(pid for pid, line in lines.items() if b"judge" in line)


def test_a_run_ends_as_on_one_machine_although_a_host_dies(cluster, results):
    run = cluster.run("--scenario=all", results=results)
    at_work = {"h1", "h2", "h3"}
    wait_until("every host is at work", lambda: {event.get("host") for event in finished(results)} >= at_work)
    cluster.hosts["h3"].die()
    cluster.started.pop("h3").communicate()
    status, _, errors = outcome(run)
    assert status == 1, errors
    rows = {row.id.removeprefix("router-from-4.21-"): row for row in report_of(results).scenarios}
    sleeps = {f"sleep-{number}": "passed" for number in range(12)}
    verdicts = {**sleeps, "finding": "failed", "poor-host": "passed", "elsewhere": "skipped"}
    assert {name: row.verdict for name, row in rows.items()} == verdicts
    # The host that died had one slot, so it was at one scenario; and one says itself that its host is to blame.
    lost = [row for name, row in rows.items() if row.retried and name != "poor-host"]
    assert len(lost) <= 1
    assert all("h3" in reason for row in lost for reason in row.retried)
    assert len(rows["poor-host"].retried) <= 2
    often = Counter(
        event["scenario"] for event in finished(results) if event["verdict"] in ("passed", "failed")
    )
    again = {row.id for row in rows.values() if row.retried}
    assert {name for name, times in often.items() if times > 1} <= again
    logs = {path.parent.name for path in (results / "latest/logs").glob("*/console.log")}
    assert logs <= {f"router-from-4.21-{name}" for name in sleeps}
    assert len(logs) >= 11
    wait_until("nothing is left", lambda: not leftovers(cluster, "h1", "h2"))
    # The next command of the host that died clears up after it.
    cluster.start("h3")
    assert leftovers(cluster, "h3") == []


def test_ctrl_c_ends_everything_everywhere(cluster, results):
    hold = Path(cluster.middle.environment["STAND_IN_NOTES"]).with_name("hold")
    hold.touch()
    run = cluster.run("--scenario=sleep", results=results)
    wait_until("a scenario has ended", lambda: finished(results))
    os.kill(process_of(cluster), signal.SIGINT)
    status, _, errors = outcome(run)
    hold.with_name("held").unlink()
    assert status == 130, errors
    report = report_of(results)
    assert "interrupted" in report.reason
    assert leftovers(cluster, *cluster.hosts) == []


LISTENING = r"""
import socket, sys
for line in [*open("/proc/net/tcp"), *open("/proc/net/tcp6")]:
    words = line.split()
    if words[3] == "0A":
        place, port = words[1].split(":")
        print("local" if place in ("0100007F", "00000000000000000000000001000000") else "open", int(port, 16))
"""


def listening(host):
    _, output, _ = outcome(host.popen(LISTENING))
    return [line.split() for line in output.splitlines()]


def test_no_port_beyond_loopback_speaks_to_who_has_no_certificate(cluster):
    places = {
        (host.address, int(port))
        for host in (cluster.middle, *cluster.hosts.values())
        for place, port in listening(host)
        if place == "open"
    }
    assert len(places) == 4, "one for the scheduler, and one for each host"
    ask = f"""
import socket, ssl
for place in {sorted(places)}:
    with socket.create_connection(place, 5) as plain:
        plain.settimeout(5)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with context.wrap_socket(plain) as tls:
                print("answered" if tls.recv(1) else "closed")
        except ssl.SSLError as error:
            print("refused", error.reason)
"""
    _, output, errors = outcome(cluster.middle.popen(ask))
    assert len(output.splitlines()) == 4, errors
    assert all(line.startswith(("refused", "closed")) for line in output.splitlines())


def test_workers_and_runs_that_are_killed_leave_nothing(cluster, results):
    run = cluster.run("--scenario=sleep", results=results)
    wait_until("the host is at work", lambda: "h1" in {event["host"] for event in finished(results)})
    host = cluster.hosts["h1"]
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in host.pids()}
    (worker,) = (pid for pid, line in lines.items() if b"--name" in line)
    os.kill(worker, signal.SIGKILL)
    cluster.started.pop("h1").communicate()
    os.kill(process_of(cluster), signal.SIGKILL)
    run.communicate()
    wait_until("the seat of the worker has ended", lambda: not host.pids())
    wait_until("nothing is left", lambda: not leftovers(cluster, "h2", "h3"))


@pytest.mark.skipif(
    "SYSVM_CLUSTER_VMS" not in os.environ, reason="nox -s cluster runs it: a minute and a half"
)
def test_a_host_that_cannot_be_reached_is_given_up_and_gives_up_itself(cluster, results):
    run = cluster.run("--scenario=sleep", results=results)
    wait_until("the host is at work", lambda: "h2" in {event["host"] for event in finished(results)})
    subprocess.run(["ip", "-n", cluster.middle.namespace, "link", "set", "h2", "down"], check=True)
    status, _, errors = outcome(run, 200)
    assert status == 0, errors
    assert {row.verdict for row in report_of(results).scenarios} == {"passed"}
    output, _ = cluster.started.pop("h2").communicate(timeout=200)
    assert "is gone" in output
    assert leftovers(cluster, "h2") == []
    assert cluster.hosts["h2"].pids() == []
