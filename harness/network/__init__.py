"""A network as a person declares it, and what a management server sends for it, and how."""

from __future__ import annotations

from harness.network.declaration import load, parse
from harness.network.model import Network
from harness.network.orders import Orders
from harness.network.transport import (
    Aggregate,
    Applied,
    Databag,
    Direct,
    Plug,
    Together,
    aggregate,
    bags_of,
    deliver,
)

__all__ = [
    "Aggregate",
    "Applied",
    "Databag",
    "Direct",
    "Network",
    "Orders",
    "Plug",
    "Together",
    "aggregate",
    "bags_of",
    "deliver",
    "load",
    "parse",
]
