"""The management server's side of live patches: its calls, its refusals, and none of its proven faults."""

from __future__ import annotations

from harness.management.fleet import FleetListener, Summary, Target, patch_many
from harness.management.inventory import Inventory, NetworkRow, Vm, VpcRow
from harness.management.server import ManagementServer, Refused, Restart
from harness.management.status import StatusRow, status_of

__all__ = [
    "FleetListener",
    "Inventory",
    "ManagementServer",
    "NetworkRow",
    "Refused",
    "Restart",
    "StatusRow",
    "Summary",
    "Target",
    "Vm",
    "VpcRow",
    "patch_many",
    "status_of",
]
