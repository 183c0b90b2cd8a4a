"""Probes that run all through a patch and give the downtime of each service to the millisecond."""

from __future__ import annotations

from harness.traffic.console_probe import ConsoleProbe
from harness.traffic.measurement import ProbeResult, Recorder
from harness.traffic.probes import DnsProbe, HttpProbe, Probe, StreamProbe, TcpProbe
from harness.traffic.runner import Traffic

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
