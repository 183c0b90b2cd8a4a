"""The state of a served management server; the calls work on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.management import gate
from harness.management.api.accounts import Accounts, usual
from harness.management.api.chronicle import Chronicle
from harness.management.api.fleet import LOOK_EVERY, FixedFleet, Fleet, Watch
from harness.management.api.jobs import Jobs
from harness.management.api.limits import ApiLimits
from harness.management.api.throttle import Throttle
from harness.management.inventory import Inventory, NetworkRow, Vm
from harness.management.server import ManagementServer
from harness.record.events import Emitter, Nowhere


@dataclass
class ServerState:
    """A management server with what its API adds.

    Attributes:
        server: carries out the calls.
        fleet: where the VMs come from.
        accounts: who may call.
        limits: bounds and settings.
        journal: is told of jobs, events and alerts.
        name: of this management server.
        faithful: the release whose faults it has, if any: it then tells nothing that CloudStack does not.
        look_every: seconds between two looks at the VMs.
        clock: seconds since 1970.
        health: what health checks said when they were asked last, by VM.
    """

    server: ManagementServer
    fleet: Fleet = field(default_factory=FixedFleet)
    accounts: Accounts = field(default_factory=usual)
    limits: ApiLimits = field(default_factory=ApiLimits)
    journal: Emitter = field(default_factory=Nowhere)
    name: str = "sysvm"
    faithful: str | None = None
    look_every: float = LOOK_EVERY
    clock: Callable[[], float] = time.time
    health: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make what lives as long as the server."""
        self.jobs = Jobs(self.limits, self.journal)
        self.chronicle = Chronicle(self.limits.events, self.journal)
        self.throttle = Throttle(self.limits, self.clock)
        self.watch = Watch(self.server, self.fleet, self.look_every, believing=self.faithful is not None)

    @property
    def inventory(self) -> Inventory:
        """The server's tables."""
        return self.server.inventory

    @property
    def version(self) -> str:
        """The server's release with four numbers, such as ``4.22.0.0``."""
        return self.server.version

    def zones(self) -> list[str]:
        """Return the names of the zones."""
        inventory = self.inventory
        zones = {vm.zone for vm in inventory.all_vms()} | {row.zone for row in inventory.all_networks()}
        return sorted(zones | {row.zone for row in inventory.all_vpcs()} | {"zone1"})

    def routers_of(self, network: NetworkRow) -> Sequence[Vm]:
        """Return the VMs that a restart of a network is about: of a tier, those of its VPC."""
        if network.vpc:
            return self.inventory.routers_of_vpc(network.vpc)
        return self.inventory.routers_of_network(network.id)

    def settings(self) -> list[tuple[str, str, str, str]]:
        """Return settings: name, value, what they do, and where they may be set."""
        minimum = self.server.minimum_template or gate.MINIMUM_TEMPLATE
        limits = self.limits
        return [
            ("minreq.sysvmtemplate.version", minimum, "the oldest template whose routers are talked to", "zone"),
            ("default.page.size", str(limits.page_size), "the largest page of a list", "global"),
            ("job.expire.minutes", f"{limits.job_expiry / 60:g}", "how long a finished job is remembered", "global"),
            (
                "enforce.post.requests.and.timestamps", str(limits.enforce_post).lower(),
                "demand POST and an expiry", "global",
            ),
        ]  # fmt: skip

    def close(self) -> None:
        """Look no more, take up no further job, and wait for those that are under way."""
        self.watch.close()
        self.jobs.close()
