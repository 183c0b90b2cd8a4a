"""Probes that run all through a patch and give the downtime of each service to the millisecond."""

from __future__ import annotations

from harness.traffic.probes import WEBSOCKET, DnsProbe, HttpProbe, Probe, StreamProbe, TcpProbe
from harness.traffic.record import ProbeResult, Recorder
from harness.traffic.run import Traffic

__all__ = [
    "WEBSOCKET",
    "DnsProbe",
    "HttpProbe",
    "Probe",
    "ProbeResult",
    "Recorder",
    "StreamProbe",
    "TcpProbe",
    "Traffic",
]
