"""Probes that run all through a patch and give the downtime of each service to the millisecond."""

from __future__ import annotations

from harness.traffic.console import ConsoleProbe
from harness.traffic.probes import DnsProbe, HttpProbe, Probe, StreamProbe, TcpProbe
from harness.traffic.record import ProbeResult, Recorder
from harness.traffic.run import Traffic

__all__ = [
    "ConsoleProbe",
    "DnsProbe",
    "HttpProbe",
    "Probe",
    "ProbeResult",
    "Recorder",
    "StreamProbe",
    "TcpProbe",
    "Traffic",
]
