"""The DHCP client of a host is told to renew in a way that lets it end where answers take longer than a second."""

import os
import subprocess
import threading
import time

import pytest

from harness.traffic.tenant_probes import RenewalProbe

# A client that notes when it is told to renew, and has its lease renewed when it is let.
CLIENT = """\
#!/bin/bash
while [ "$1" != -s ]; do shift; done
hook=$2
trap 'echo renew >>{folder}/told; if [ -e {folder}/answers ]; then "$hook" renew; fi' USR1
[ ! -e {folder}/answers ] || "$hook" bound
: >{folder}/runs
while :; do sleep 0.02; done
"""


@pytest.fixture
def client(tmp_path):
    """Return what runs the probe's loop for seconds: signals to the client, and requests and answers reported."""
    mark = tmp_path / f"probe.{tmp_path.name}"
    (tmp_path / "udhcpc").write_text(CLIENT.format(folder=tmp_path))
    (tmp_path / "udhcpc").chmod(0o755)

    def run(seconds):
        script = RenewalProbe("renewal", None, 20.0).script(tmp_path.name)
        script = script.replace("/bin/busybox sh", "/bin/sh").replace("/bin/usleep 50000", "sleep 0.05")
        script = script.replace("/etc/udhcpc.", f"{tmp_path}/hook.").replace(
            "/etc/probe", f"{tmp_path}/probe"
        )
        script = script.replace("/bin/usleep 10000", "sleep 0.01")
        with (tmp_path / "reports").open("wb") as reports:
            line = f"exec 3>&{reports.fileno()}\n{script}wait\n"
            environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
            process = subprocess.Popen(["bash", "-c", line], env=environment, pass_fds=[reports.fileno()])
        time.sleep(seconds)
        mark.unlink()
        assert process.wait(10) == 0
        told = (tmp_path / "told").read_text().count("renew") if (tmp_path / "told").exists() else 0
        lines = [row.split()[2].split(",")[1:] for row in (tmp_path / "reports").read_text().splitlines()]
        kinds = [entry.partition(":")[0] for entries in lines for entry in entries]
        return told, kinds.count("2"), kinds.count("0")

    return run


def test_a_client_that_is_answered_renews_at_every_beat(client, tmp_path):
    (tmp_path / "answers").touch()
    told, sent, answered = client(1.5)
    assert sent >= 8
    # Two signals at once count as one: on a busy host fewer arrive than were sent.
    assert sent // 2 <= told <= sent
    assert answered >= told - 1


def test_a_client_that_waits_for_its_first_lease_is_left_alone(client):
    told, sent, answered = client(0.3)
    assert (told, answered) == (0, 0)
    assert sent >= 2


def test_a_client_that_waits_is_told_to_begin_anew_at_every_tenth_request_only(client):
    told, sent, answered = client(2.5)
    assert answered == 0
    assert sent >= 9
    assert 1 <= told <= (sent + 1) // 10


def test_a_client_that_is_no_longer_answered_is_told_once_more_and_then_left_alone(client, tmp_path):
    (tmp_path / "answers").touch()

    def cut():
        while not (tmp_path / "told").exists():
            time.sleep(0.01)
        (tmp_path / "answers").unlink()

    thread = threading.Thread(target=cut)
    thread.start()
    told, sent, answered = client(0.6)
    thread.join()
    assert answered >= 1
    assert told <= answered + 2
    assert sent >= 5
