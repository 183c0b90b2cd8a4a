"""Survey of a cloud, read through its API: nothing is changed by any of these calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bundle.errors import UsageError
from harness.rollout.api import Api
from harness.rollout.kinds import parts_of
from harness.rollout.rows import (
    ListedNetwork,
    ListedVm,
    ListedVpc,
    network_row,
    router_row,
    system_vm_row,
    text,
    vpc_row,
)
from harness.rollout.transport import Rejected

# Calls without which nothing can be planned, and those that a run makes besides.
_TO_PLAN = ("listRouters", "listNetworks", "listVPCs", "listZones")
TO_RUN = ("patchSystemVm", "restartNetwork", "restartVPC", "queryAsyncJobResult")
HEALTH = "getRouterHealthCheckResults"
_ALL = {"listall": True}


@dataclass(frozen=True)
class Cloud:
    """A cloud as its API shows it.

    Attributes:
        release: of the management server, such as ``4.22.0.0``.
        vms: routers, internal load balancers and system VMs.
        networks: guest networks and tiers.
        vpcs: VPCs.
        zones: names by id.
        calls: parameters of every call that this account may make, by name of the call.
        minimum: by zone id, the template version below which the server sends a router nothing.
        notes: what could not be read, or was odd.
    """

    release: str
    vms: tuple[ListedVm, ...]
    networks: tuple[ListedNetwork, ...]
    vpcs: tuple[ListedVpc, ...]
    zones: dict[str, str]
    calls: dict[str, frozenset[str]]
    minimum: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def by_id(self) -> dict[str, ListedVm]:
        """The VMs by id."""
        return {row.id: row for row in self.vms}

    @cached_property
    def due(self) -> frozenset[str]:
        """Ids of the networks and VPCs of which the server says that a restart is due."""
        networks = {row.id for row in self.networks if row.restart_required}
        return frozenset(networks | {row.id for row in self.vpcs if row.restart_required})

    @property
    def counts(self) -> dict[str, int]:
        """Number of things of each sort, for people."""
        kinds = Counter(row.kind for row in self.vms)
        named = {
            "routers": kinds["router"],
            "internal load balancers": kinds["ilb"],
            "console proxies": sum("console" in parts_of(row.kind) for row in self.vms),
            "secondary storage VMs": sum("storage" in parts_of(row.kind) for row in self.vms),
            "zones": len(self.zones),
            "networks": sum(not row.vpc for row in self.networks),
            "VPCs": len(self.vpcs),
            "tiers": sum(bool(row.vpc) for row in self.networks),
            "projects": len(
                {row.project for row in self.networks if row.project}
                | {row.project for row in self.vpcs if row.project}
            ),
            "redundant routers": sum(row.redundant for row in self.vms),
            "failed health checks": sum(row.healthy is False for row in self.vms),
        }
        return {**named, "elastic load balancers": kinds["elb"]} if kinds["elb"] else named


def survey(api: Api) -> Cloud:
    """Return what a cloud has.

    Raises:
        UsageError: the account may not make the calls that a plan rests on.
        Rejected: the server says no.
        InfrastructureError: the server does not answer, or not with lists.
    """
    release = text(api.one("listCapabilities", "capability"), "cloudstackversion")
    calls = permitted(api)
    missing = [name for name in _TO_PLAN if name not in calls]
    if missing:
        raise UsageError(
            f"this account may not call {', '.join(missing)}",
            hint="a rollout is the work of a root administrator",
        )
    notes: list[str] = []
    zones = {text(row, "id"): text(row, "name") for row in api.rows("listZones")}
    vms = [router_row(row, "listRouters") for row in _both(api, "listRouters")]
    for command in ("listInternalLoadBalancerVMs", "listSystemVms"):
        if command not in calls:
            notes.append(f"this account may not call {command}: those VMs are left out")
    if "listInternalLoadBalancerVMs" in calls:
        command = "listInternalLoadBalancerVMs"
        vms += [router_row(row, command) for row in _both(api, command)]
    if "listSystemVms" in calls:
        vms += [system_vm_row(row) for row in api.rows("listSystemVms")]
    return Cloud(
        release=release,
        vms=tuple({row.id: row for row in vms}.values()),
        networks=tuple(network_row(row) for row in _both(api, "listNetworks")),
        vpcs=tuple(vpc_row(row) for row in _both(api, "listVPCs")),
        zones=zones,
        calls=calls,
        minimum=_minimum(api, calls, tuple(zones), notes),
        notes=tuple(notes),
    )


def permitted(api: Api) -> dict[str, frozenset[str]]:
    """Return the calls that this account may make, with their parameters."""
    return {
        text(row, "name"): frozenset(text(one, "name").lower() for one in row.get("params") or [])
        for row in api.read("listApis").get("api") or []
    }


def _both(api: Api, command: str) -> list[dict[str, object]]:
    """Return what belongs to accounts and what belongs to projects: neither list has the other's."""
    own = api.rows(command, **_ALL)
    return list(
        {str(row.get("id")): row for row in (*own, *api.rows(command, **_ALL, projectid="-1"))}.values()
    )


def _minimum(
    api: Api, calls: dict[str, frozenset[str]], zones: Sequence[str], notes: list[str]
) -> dict[str, str]:
    """Return the setting that decides whether the server talks to a router at all, by zone."""
    name = "minreq.sysvmtemplate.version"
    if "listConfigurations" not in calls:
        notes.append(f"this account may not read the setting {name}")
        return {}
    found: dict[str, str] = {}
    for zone in zones:
        try:
            rows = api.rows("listConfigurations", name=name, zoneid=zone)
        except Rejected as error:
            notes.append(f"the setting {name} cannot be read: {error}")
            return found
        value = next((text(row, "value") for row in rows if text(row, "name") == name), "")
        if value:
            found[zone] = value
    return found
