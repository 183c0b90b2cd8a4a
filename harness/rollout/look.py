"""A look at one unit, as it is now: by a few small lists instead of those of the whole cloud."""

from __future__ import annotations

from dataclasses import dataclass

from harness.record.events import Json
from harness.rollout.api import Api
from harness.rollout.rows import (
    ListedNetwork,
    ListedVm,
    ListedVpc,
    network_row,
    router_row,
    system_vm_row,
    vpc_row,
)
from harness.rollout.survey import Cloud
from harness.rollout.transport import BAD_PARAMETER, Rejected
from harness.rollout.units import PatchUnit, group


@dataclass(frozen=True)
class Look:
    """The result of a look: the unit as it is now (None when it is gone), and the rows that it is made of."""

    unit: PatchUnit | None
    cloud: Cloud


def look(
    api: Api, unit: PatchUnit, release: str, calls: dict[str, frozenset[str]], minimum: dict[str, str]
) -> Look:
    """Return a unit as it is now.

    Args:
        api: of the server.
        unit: as it was planned.
        release: of the server.
        calls: that the account may make.
        minimum: template version by zone.

    Raises:
        Rejected: the server says no.
        InfrastructureError: it does not answer.
    """
    if unit.kind == "system VM":
        vms = [system_vm_row(row) for row in _found(api, "listSystemVms", id=unit.id)]
        networks: list[ListedNetwork] = []
        vpcs: list[ListedVpc] = []
    else:
        vms, networks, vpcs = _of_network(api, unit)
    cloud = Cloud(release, tuple(vms), tuple(networks), tuple(vpcs), {}, calls, minimum)
    units = {row.id: row for row in group(vms, networks, vpcs).units}
    return Look(units.get(unit.id), cloud)


def _of_network(api: Api, unit: PatchUnit) -> tuple[list[ListedVm], list[ListedNetwork], list[ListedVpc]]:
    scope: dict[str, str | int | bool] = {"listall": True}
    if unit.project:
        scope["projectid"] = unit.project
    networks: list[ListedNetwork] = []
    vpcs: list[ListedVpc] = []
    if unit.kind == "VPC":
        vpcs = [vpc_row(row) for row in _found(api, "listVPCs", id=unit.id, **scope)]
        networks = (
            [network_row(row) for row in _found(api, "listNetworks", vpcid=unit.id, **scope)] if vpcs else []
        )
        scope["vpcid"] = unit.id
    else:
        networks = [network_row(row) for row in _found(api, "listNetworks", id=unit.id, **scope)]
        scope["networkid"] = unit.id
    if not (networks or vpcs):
        return [], [], []
    vms = [router_row(row, "listRouters") for row in _found(api, "listRouters", **scope)]
    if any(member.kind == "ilb" for member in unit.members):
        command = "listInternalLoadBalancerVMs"
        vms += [router_row(row, command) for row in _found(api, command, **scope)]
    return vms, networks, vpcs


def _found(api: Api, command: str, **parameters: str | int | bool) -> list[dict[str, Json]]:
    """Return the rows of a list; none when the server no longer knows the id that is asked for."""
    try:
        return api.rows(command, **parameters)
    except Rejected as error:
        if error.code == BAD_PARAMETER:
            return []
        raise
