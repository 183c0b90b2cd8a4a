"""A server that ends, and the next one: what it did is known, and what it was doing has failed."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cs import CloudStackApiException

from harness.management.api import history, uid
from harness.record.events import read
from tests.unit.harness.apiworld import World


def started(folder: Path) -> tuple[World, int]:
    """Return a world whose server keeps its journal in a folder, and how many jobs of the last one were lost."""
    journal, earlier = history.open_journal(folder / "journal.jsonl")
    world = World(journal=journal)
    world.system_vm("s-2-VM", "secstorage")
    return world, history.remember(world.service, earlier)


def test_a_job_in_progress_has_failed_at_the_next_start_and_is_an_alert(tmp_path: Path) -> None:
    first, _ = started(tmp_path)
    guest = first.cloud.guests["s-2-VM"]
    guest.waits_for = threading.Event()
    with first.served() as url:
        job = first.client(url, "admin").patchSystemVm(id=uid("vm", "s-2-VM"))["jobid"]
        # Here the first one is killed: nothing of it is told that it ends.
        second, lost = started(tmp_path)
        guest.waits_for.set()
    assert lost == 1
    with second.served() as url:
        client = second.client(url, "admin")
        ended = client.queryAsyncJobResult(jobid=job)
        assert (ended["jobstatus"], ended["jobresultcode"]) == (2, 530)
        assert ended["jobresult"].startswith("job cancelled because of management server restart")
        assert ended["jobresulttype"] == "text"
        assert job in client.listAlerts()["alert"][0]["description"]
        assert client.listAsyncJobs(listall=True) == {}


_SERVER = """
import sys, threading, time
from pathlib import Path
from harness.management.api import uid
from tests.unit.harness.management.api.test_history import started
world, _ = started(Path(sys.argv[1]))
world.cloud.guests["s-2-VM"].waits_for = threading.Event()
with world.served() as url:
    print(world.client(url, "admin").patchSystemVm(id=uid("vm", "s-2-VM"))["jobid"], flush=True)
    while ("s-2-VM", "patch") not in world.cloud.timeline:
        time.sleep(0.01)
    print("patching", flush=True)
    time.sleep(60)
"""


def test_a_server_that_is_killed_in_the_middle_of_a_job_says_so_at_its_next_start(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SERVER, str(tmp_path)]
    root = Path(__file__).parents[5]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as server:
        assert server.stdout is not None
        job = server.stdout.readline().strip()
        assert server.stdout.readline() == "patching\n"
        server.kill()
    world, lost = started(tmp_path)
    assert lost == 1
    found = world.service.jobs.find(job)
    assert found is not None
    assert (found.status, found.code) == (2, 530)
    assert "it was in progress when the server ended" in str(found.result)


def test_what_ended_is_known_after_any_number_of_starts(tmp_path: Path) -> None:
    first, _ = started(tmp_path)
    with first.served() as url:
        client = first.client(url, "admin")
        job = client.patchSystemVm(id=uid("vm", "s-2-VM"))["jobid"]
        assert client._jobresult(job)["success"] is True
        first.cloud.guests["s-2-VM"].fails = "no"
        with pytest.raises(CloudStackApiException):
            client.patchSystemVm(id=uid("vm", "s-2-VM"), forced=True, fetch_result=True)
        events, alerts = client.listEvents(), client.listAlerts()
    for _ in range(3):
        world, lost = started(tmp_path)
        assert lost == 0
    with world.served() as url:
        client = world.client(url, "admin")
        assert client.queryAsyncJobResult(jobid=job)["jobstatus"] == 1
        assert client.listEvents() == events
        assert client.listAlerts() == alerts


def test_a_line_that_was_not_finished_costs_nothing_else(tmp_path: Path) -> None:
    first, _ = started(tmp_path)
    with first.served() as url:
        client = first.client(url, "admin")
        job = client.patchSystemVm(id=uid("vm", "s-2-VM"))["jobid"]
        client._jobresult(job)
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"t": 1.0, "at": "2026-')
    second, lost = started(tmp_path)
    assert lost == 0
    job_row = second.service.jobs.find(job)
    assert job_row is not None
    assert job_row.status == 1


def test_a_server_that_is_killed_while_it_starts_has_lost_nothing(tmp_path: Path) -> None:
    first, _ = started(tmp_path)
    first.service.chronicle.alert(9, "x", "an alert")
    (tmp_path / "journal.jsonl-new").write_text("half a line")
    second, _ = started(tmp_path)
    assert [alert.description for alert in second.service.chronicle.alerts()] == ["an alert"]


def test_the_journal_holds_no_secret(tmp_path: Path) -> None:
    world, _ = started(tmp_path)
    with world.served() as url:
        world.client(url, "admin").patchSystemVm(id=uid("vm", "s-2-VM"), fetch_result=True)
    assert {"api_job", "api_event"} <= {event.kind for event in read(tmp_path / "journal.jsonl")}
    said = (tmp_path / "journal.jsonl").read_text()
    for account in world.service.accounts:
        assert account.secret not in said
        assert account.password not in said
        assert account.api_key not in said
