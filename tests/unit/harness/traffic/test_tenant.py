"""Hosts of a tenant guest: many questions at once over one port, and probes that report by themselves.

The guest is played by a thread that runs the scripts with the machine's own busybox; the real one is in tests/e2e.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import threading
import time

import pytest

from bundle.errors import InfrastructureError
from harness.guest.connection import GuestError
from harness.traffic import Traffic
from harness.traffic.measurement import Recorder
from harness.traffic.tenant_probes import TenantProbe, _Ledger
from harness.vm.tenant.tenant import TenantHost, TenantSpec, connect

SPEC = TenantSpec("tenants", (TenantHost("vm1", "02:00:00:00:00:01", "eth0", "10.1.1.50"),))


class PlayedGuest:
    """Answers on a socket as the guest's init.sh does: each script in a process of its own, fd 3 is the port."""

    def __init__(self, path, folder):
        self.folder = folder
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.running = []
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        self.connection, _ = self.listener.accept()
        with self.listener, self.connection, self.connection.makefile() as lines:
            self.connection.sendall(b"ready 0 \n")
            for line in lines:
                self.running.append(threading.Thread(target=self._run, args=line.split()))
                self.running[-1].start()
            for thread in self.running:
                thread.join()

    def _run(self, identifier, _host, script):
        text = base64.b64decode(script).decode()
        text = text.replace("/etc/probe", f"{self.folder}/probe").replace("/bin/usleep", "usleep")
        port = os.dup(self.connection.fileno())
        command = ["busybox", "sh", "-c", f"exec 3>&{port}\n{text}"]
        done = subprocess.run(command, capture_output=True, check=False, pass_fds=[port])
        answer = base64.b64encode(done.stdout).decode()
        os.close(port)
        with contextlib.suppress(BrokenPipeError):  # nobody waits for the answer any more
            self.connection.sendall(f"{identifier} {done.returncode} {answer}\n".encode())


@pytest.fixture
def vm1(tmp_path):
    guest = PlayedGuest(tmp_path / "port", tmp_path)
    host = connect(SPEC, tmp_path / "port")["vm1"]
    host.wait_ready()
    yield host
    host.close()
    guest.thread.join(10)


def test_a_host_answers_with_status_and_output(vm1):
    assert vm1.run("echo one; echo two").stdout == "one\ntwo\n"
    assert vm1.run("exit 7", check=False).status == 7
    with pytest.raises(GuestError, match="'exit 7' ended with status 7"):
        vm1.run("exit 7")


def test_a_slow_question_does_not_hold_up_a_quick_one(vm1, tmp_path):
    slow = threading.Thread(target=vm1.run, args=(f"until [ -e {tmp_path}/go ]; do usleep 1000; done",))
    slow.start()
    assert vm1.run("echo quick").stdout == "quick\n"
    assert slow.is_alive()
    vm1.run(f": >{tmp_path}/go")
    slow.join(10)
    assert not slow.is_alive()


def test_an_answer_that_does_not_come_is_an_error_and_the_port_goes_on(vm1):
    with pytest.raises(GuestError, match=r"no answer within 0.1 s to 'sleep 2'"):
        vm1.run("sleep 2", deadline=0.1)
    assert vm1.run("echo still here").stdout == "still here\n"


def test_a_guest_that_is_gone_is_named(tmp_path):
    with pytest.raises(InfrastructureError, match="control socket"):
        connect(SPEC, tmp_path / "nothing")["vm1"].run("true")


def test_a_host_measures_the_time_that_a_service_is_away(vm1, tmp_path):
    service = tmp_path / "service"
    service.touch()
    probe = TenantProbe("service", vm1, f"[ -e {service} ]", 20.0)
    with Traffic([probe]) as traffic:
        time.sleep(0.6)
        gone = time.monotonic()
        service.unlink()
        time.sleep(1.0)
        service.touch()
        away = time.monotonic() - gone
        time.sleep(0.6)
    (result,) = traffic.results
    assert result.longest_gap_ms == pytest.approx(away * 1000, abs=300)
    assert 0 < result.lost < result.sent
    assert result.first_loss is not None
    assert result.first_loss >= gone - 0.1


def test_requests_without_any_answer_are_lost(vm1):
    probe = TenantProbe("silent", vm1, "sleep 5", 10.0)
    with Traffic([probe]) as traffic:
        time.sleep(1.6)
    (result,) = traffic.results
    assert result.lost > 0
    assert result.longest_gap_ms > 1000


def test_probes_end_with_the_traffic(vm1, tmp_path):
    with Traffic([TenantProbe("loop", vm1, "true", 20.0)]):
        time.sleep(0.3)
    deadline = time.monotonic() + 5
    while list(tmp_path.glob("probe.*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(tmp_path.glob("probe.*")) == []


def test_an_answer_counts_when_it_was_given_and_not_when_it_was_told(vm1, monkeypatch):
    """The port of a busy guest stands still for seconds; nobody was without an answer for that."""
    still = threading.Event()
    heard = _Ledger.heard

    def late(self, report):
        if still.is_set():
            still.clear()
            time.sleep(1.5)
        heard(self, report)

    monkeypatch.setattr(_Ledger, "heard", late)
    with Traffic([TenantProbe("service", vm1, "true", 10.0)]) as traffic:
        traffic.settle(5)
        still.set()
        time.sleep(2.5)
    (result,) = traffic.results
    assert not still.is_set()
    assert result.sent >= 8
    assert result.longest_gap_ms < 900


def test_what_no_line_told_is_in_the_last_word(vm1):
    """Lines go out in every second turn: what the last turns saw comes with the end."""
    with Traffic([TenantProbe("service", vm1, "true", 2.0)]) as traffic:
        time.sleep(2.8)
    (result,) = traffic.results
    assert result.sent >= 4
    assert result.lost == 0
    assert result.longest_gap_ms < 900


def test_a_host_that_told_nothing_has_its_clock_read_at_the_end(monkeypatch):
    """Its entries lie where its own clock puts them, not at the time at which they were fetched."""
    monkeypatch.setattr("harness.traffic.tenant_probes.time.monotonic", lambda: 1000.0)
    recorder = Recorder("service", 1.0, started=990.0)
    ledger = _Ledger(recorder)
    ledger.close("50.0\n2:1:41.0\n0:1:42.0\n2:2:43.0\n0:2:49.0\n")
    result = recorder.result(1000.0)
    assert result.sent == 2
    assert result.longest_gap_ms == pytest.approx(6000)


def test_what_is_no_entry_breaks_the_probe_and_not_the_port():
    ledger = _Ledger(Recorder("service", 1.0))
    ledger.heard((3, "41.0,2:1:40.0,nonsense"))
    ledger.heard((3, "42.0,0:1:41.5"))
    with pytest.raises(ValueError, match="not enough values"):
        ledger.close("43.0\n")
