"""Probes: the downtime that they measure is the downtime that there was."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from harness.record.events import EventLog, read
from harness.report import build
from harness.traffic import (
    DnsProbe,
    HttpProbe,
    ProbeResult,
    Recorder,
    StreamProbe,
    TcpProbe,
    Traffic,
)

OUTAGE = 2.0  # seconds
ATTEMPTS = 3
PUNCTUAL_MS = 50.0


@dataclass
class Server:
    process: subprocess.Popen[str]
    http: int
    echo: int
    dns: int

    def order(self, word: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == f"{word}\n"


@pytest.fixture
def server() -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "answering.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    ports = [int(port) for port in process.stdout.readline().split()]
    yield Server(process, *ports)
    process.kill()
    process.communicate()


def probes(server: Server) -> list[HttpProbe | TcpProbe | StreamProbe | DnsProbe]:
    return [
        HttpProbe("load balancer", "127.0.0.1", server.http, expect=b"hello"),
        TcpProbe("port forward", "127.0.0.1", server.echo, send=b"ping", expect=b"ping"),
        StreamProbe("stream", "127.0.0.1", server.echo),
        DnsProbe(
            "dns", "127.0.0.1", server.dns, query="vm1.cs1.cloud.internal", address=IPv4Address("10.1.1.50")
        ),
    ]


def until(traffic: Traffic, names: list[str], count: int) -> None:
    """Wait until each probe has sent so many requests."""
    end = time.monotonic() + 10
    tick = threading.Event()
    while min(traffic.recorder(name).result().sent for name in names) < count:
        assert time.monotonic() < end, "the probes do not send"
        tick.wait(0.01)


def outage(seconds: float) -> None:
    """Let exactly this much time pass: it is what the test measures, not a wait for something."""
    threading.Event().wait(seconds)


def by_name(results: tuple[ProbeResult, ...]) -> dict[str, ProbeResult]:
    return {result.name: result for result in results}


def frozen_once(server: Server) -> tuple[float, tuple[ProbeResult, ...]]:
    """Freeze the service for two seconds; returns the milliseconds that it really was, and what the probes saw."""
    names = ["load balancer", "port forward", "stream", "dns"]
    with Traffic(probes(server)) as traffic:
        until(traffic, names, 25)
        server.process.send_signal(signal.SIGSTOP)
        frozen = time.monotonic()
        outage(OUTAGE)
        server.process.send_signal(signal.SIGCONT)
        lasted = time.monotonic() - frozen
        until(traffic, names, 175)
    return lasted * 1000, traffic.results


def test_a_service_that_is_frozen_for_two_seconds_is_measured_to_a_tenth(server: Server) -> None:
    """On a host with nothing else to do; one that is busy answers late, so one time of three must be quiet enough."""
    for _ in range(3):
        lasted, results = frozen_once(server)
        for result in results:
            assert result.longest_gap_ms >= lasted - 100, result
            assert result.broken_streams == 0
            assert len(result.gaps) >= 1
        late = max(result.longest_gap_ms for result in results) - lasted
        if late <= 100:
            return
    pytest.fail(f"gaps were {late:.0f} ms too long three times")


def measured_outage(server: Server) -> tuple[dict[str, ProbeResult], float, float]:
    """Close the services for two seconds; returns the results by name, and when that began and how long it took."""
    names = ["load balancer", "port forward", "stream", "dns"]
    with Traffic(probes(server)) as traffic:
        until(traffic, names, 25)
        server.order("close")
        closed = time.monotonic()
        outage(OUTAGE)
        server.order("open")
        lasted = time.monotonic() - closed
        until(traffic, names, 175)
    return by_name(traffic.results), closed, lasted


def test_a_service_that_is_closed_for_two_seconds_is_measured_to_a_tenth(server: Server) -> None:
    # On a busy host a probe may ask too late, and says so itself: then it has measured the host.
    for _ in range(ATTEMPTS):
        found, closed, lasted = measured_outage(server)
        if max(result.lag_ms for name, result in found.items() if name != "stream") < PUNCTUAL_MS:
            break
    for result in found.values():
        assert result.longest_gap_ms == pytest.approx(lasted * 1000, abs=100), result
    assert (found["stream"].broken_streams, found["stream"].streams) == (1, 2)
    assert found["load balancer"].streams == 0
    assert found["stream"].lag_ms < 1000, "a stream that was away is not a harness that was late"
    for name in ("load balancer", "port forward", "dns"):
        assert 50 <= found[name].lost <= 120
        assert found[name].first_loss is not None
        assert closed - 0.1 <= found[name].first_loss
        assert found[name].last_loss is not None
        assert found[name].last_loss <= closed + lasted + 0.1


def test_a_healthy_service_has_no_loss_and_fifty_requests_a_second(server: Server) -> None:
    names = ["load balancer", "port forward", "stream", "dns"]
    with Traffic(probes(server)) as traffic:
        until(traffic, names, 50)
    for result in traffic.results:
        assert (result.lost, result.broken_streams, result.first_loss) == (0, 0, None)
        assert result.longest_gap_ms < 500
        assert result.sent / (result.ended - result.started) == pytest.approx(50, rel=0.5)


def test_settled_probes_have_all_had_an_answer(server: Server) -> None:
    server.process.send_signal(signal.SIGSTOP)
    with Traffic(probes(server)) as traffic:
        thaw = threading.Timer(0.3, server.process.send_signal, (signal.SIGCONT,))
        thaw.start()
        traffic.settle(10.0)
        assert all(
            traffic.recorder(name).was_answered for name in ("load balancer", "port forward", "stream", "dns")
        )
        thaw.join()
    assert all(result.sent for result in traffic.results)


def test_who_reports_is_waited_for_too() -> None:
    with Traffic([], reported={"agent": 5.0}) as traffic:
        told = threading.Timer(0.2, traffic.recorder("agent").answered)
        told.start()
        traffic.settle(10.0)
        assert traffic.recorder("agent").was_answered


def test_probes_that_nobody_answers_are_not_waited_for_longer_than_said(server: Server) -> None:
    server.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    with Traffic(probes(server)) as traffic:
        traffic.settle(0.2)
        assert 0.2 <= time.monotonic() - began < 2.0
        assert not traffic.recorder("dns").was_answered
    server.process.send_signal(signal.SIGCONT)


def test_a_busy_host_has_longer_for_its_first_answers() -> None:
    """Its budgets are longer, too: who is never answered must have a gap that is more than his."""
    with Traffic([], reported={"silent": 5.0}) as traffic:
        began = time.monotonic()
        traffic.settle(0.1, lambda: 5.0)
        assert 0.5 <= time.monotonic() - began < 2.0
    (result,) = traffic.results
    assert result.longest_gap_ms >= 300


def test_a_wrong_answer_is_a_lost_one(server: Server) -> None:
    wrong = [
        HttpProbe("body", "127.0.0.1", server.http, expect=b"other"),
        DnsProbe("address", "127.0.0.1", server.dns, query="vm1", address=IPv4Address("10.1.1.99")),
        TcpProbe(
            "closed", "127.0.0.1", server.http, send=b"GET / HTTP/1.0\r\n\r\n", expect=b"nothing like that"
        ),
    ]
    with Traffic(wrong) as traffic:
        until(traffic, ["body", "address", "closed"], 20)
    for result in traffic.results:
        assert result.lost == result.sent
        assert "Wrong: " in result.reason
        # Nothing right ever arrived: the whole time is the gap.
        assert result.longest_gap_ms == pytest.approx((result.ended - result.started) * 1000 - 20, abs=1)


def test_a_service_that_never_comes_back_is_a_gap_until_the_end(server: Server) -> None:
    with Traffic([HttpProbe("load balancer", "127.0.0.1", server.http)]) as traffic:
        until(traffic, ["load balancer"], 10)
        server.order("close")
        closed = time.monotonic()
        until(traffic, ["load balancer"], 60)
    (result,) = traffic.results
    assert result.longest_gap_ms == pytest.approx((result.ended - closed) * 1000, abs=100)


def test_a_tenant_reports_on_the_same_clock(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        with Traffic([], reported={"icmp": 10.0}) as traffic:
            recorder = traffic.recorder("icmp")
            start = recorder.started
            for number in range(1, 11):
                recorder.sent()
                if number not in {4, 5, 6}:
                    recorder.answered(start + number / 10)
                else:
                    recorder.lost(start + number / 10, "no reply")
            outage(start + 1.0 - time.monotonic())
        traffic.record(log, "router-S22", {"icmp": 250.0})
    (result,) = traffic.results
    assert (result.sent, result.lost) == (10, 3)
    assert result.longest_gap_ms == pytest.approx(300, abs=1)
    event = next(event for event in read(tmp_path / "events.jsonl") if event.kind == "probe")
    assert 0 <= event["started"] < 1
    (row,) = build(read(tmp_path / "events.jsonl")).scenarios
    assert row.probes[0].within_budget is False
    assert row.probes[0].gaps[0][1] - row.probes[0].gaps[0][0] == pytest.approx(
        result.longest_gap_ms / 1000, abs=0.001
    )
    assert [(budget.budget_ms, budget.sent) for budget in traffic.budgets({"icmp": 250.0})] == [(250.0, 10)]


def test_two_probes_of_one_name_are_refused(server: Server) -> None:
    probe = HttpProbe("x", "127.0.0.1", server.http)
    with pytest.raises(ValueError, match="two probes have the same name"):
        Traffic([probe, probe])
    with pytest.raises(ValueError, match="two probes have the same name"):
        Traffic([probe], reported={"x": 1.0})


def test_a_probe_that_breaks_is_not_a_quiet_one(server: Server) -> None:
    class Broken:
        name, rate = "broken", 50.0

        async def run(self, recorder: Recorder, stop: object) -> None:
            raise KeyError("x")

    with pytest.raises(RuntimeError, match="a probe broke"), Traffic([Broken()]):
        outage(0.05)


def test_late_answers_do_not_hide_a_gap() -> None:
    recorder = Recorder("x", 0.02, started=100.0)
    for at in (100.02, 100.04, 102.04, 102.04, 102.04, 102.06):
        recorder.sent()
        recorder.answered(at)
    result = recorder.result(ended=102.08)
    assert result.longest_gap_ms == pytest.approx(1980.0, abs=0.1)
    assert [(round(begin, 2), round(end, 2)) for begin, end in result.gaps] == [(100.06, 102.04)]
