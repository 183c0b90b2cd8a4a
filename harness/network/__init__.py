"""A network as a person declares it, and the rule files that a management server would send for it."""

from __future__ import annotations

from harness.network.databags import reapply_bags, start_bags
from harness.network.declaration import load, parse
from harness.network.model import Network
from harness.network.transport import Aggregate, Applied, Databag, aggregate, apply

__all__ = [
    "Aggregate",
    "Applied",
    "Databag",
    "Network",
    "aggregate",
    "apply",
    "load",
    "parse",
    "reapply_bags",
    "start_bags",
]
