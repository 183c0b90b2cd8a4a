"""Rows of a server's lists as typed values; a row without what everything rests on is no answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from bundle.errors import InfrastructureError
from harness.record.events import Json
from harness.rollout.kinds import internal_role

# Hypervisors whose agents know the command of a live patch; others answer with an error that breaks the server's call.
ABLE = frozenset({"kvm", "xenserver", "vmware"})
# Role of an elastic load balancer, as the API writes it.
_ELASTIC_LB = "LB"


@dataclass(frozen=True, kw_only=True)
class _Owned:
    """Where something is and whose: UUID and name of its zone, and account, domain and project, as far as told."""

    zone: str = ""
    zone_name: str = ""
    account: str = ""
    domain: str = ""
    project: str = ""


@dataclass(frozen=True)
class ListedVm(_Owned):
    """A router, an internal load balancer, or a system VM of a zone.

    Attributes:
        id: UUID.
        name: such as ``r-10-VM``.
        kind: ``router``, ``ilb``, ``elb``, or what the API calls the type of a system VM.
        state: such as ``Running``.
        host: UUID of its host; empty while it runs on none, or when the caller may not know.
        template: version of its template, as far as the server says it.
        scripts: digest of its scripts, as the server has stored it; empty for system VMs.
        software: release that its scripts are of, as the server has stored it; of a system VM, what its agent reported.
        redundant: whether it is one of a pair.
        role: ``PRIMARY``, ``BACKUP``, ``FAULT``, ``UNKNOWN``, or empty.
        agent: state of a system VM's agent, such as ``Up``; empty for routers.
        healthy: whether the last health checks failed; None when the server does not say.
        offered: whether the server says itself that a live patch is available; None where it has no such field.
    """

    id: str
    name: str
    kind: str
    state: str
    host: str = ""
    host_name: str = ""
    hypervisor: str = ""
    template: str = ""
    template_name: str = ""
    scripts: str = ""
    software: str = ""
    redundant: bool = False
    role: str = ""
    agent: str = ""
    network: str = ""
    network_name: str = ""
    vpc: str = ""
    vpc_name: str = ""
    healthy: bool | None = None
    offered: bool | None = None

    @property
    def is_router(self) -> bool:
        """True for what belongs to a network or a VPC."""
        return self.kind in {"router", "ilb", "elb"}


@dataclass(frozen=True)
class ListedNetwork(_Owned):
    """A guest network or a tier; ``type`` is ``Isolated``, ``Shared`` or ``L2``."""

    id: str
    name: str
    type: str
    state: str
    vpc: str = ""
    redundant: bool = False
    restart_required: bool = False


@dataclass(frozen=True)
class ListedVpc(_Owned):
    """A VPC."""

    id: str
    name: str
    state: str
    redundant: bool = False
    restart_required: bool = False


def text(row: Mapping[str, Json], name: str) -> str:
    """Return a field as text without blanks around it; empty when there is none."""
    value = row.get(name)
    return "" if value is None else str(value).strip()


def needed(row: Mapping[str, Json], name: str, command: str) -> str:
    """Return a field that every row has.

    Raises:
        InfrastructureError: this one does not have it.
    """
    found = text(row, name)
    if not found:
        said = text(row, "name") or text(row, "id")
        raise InfrastructureError(f"{command}: a row{f' ({said})' if said else ''} without {name}")
    return found


def flag(row: Mapping[str, Json], name: str) -> bool | None:
    """Return a field that says yes or no; None when there is none."""
    value = row.get(name)
    if value is None:
        return None
    return value if isinstance(value, bool) else str(value).strip().lower() == "true"


class _Owner(TypedDict):
    zone: str
    zone_name: str
    account: str
    domain: str
    project: str


def _owner(row: Mapping[str, Json]) -> _Owner:
    """Return the fields of ``_Owned``."""
    return {
        "zone": text(row, "zoneid"),
        "zone_name": text(row, "zonename"),
        "account": text(row, "account"),
        "domain": text(row, "domain"),
        "project": text(row, "projectid"),
    }


class _Machine(TypedDict):
    id: str
    name: str
    state: str
    host: str
    host_name: str
    hypervisor: str
    template_name: str
    offered: bool | None


def _machine(row: Mapping[str, Json], command: str) -> _Machine:
    """Return the fields that every list of VMs has."""
    return {
        "id": needed(row, "id", command),
        "name": needed(row, "name", command),
        "state": needed(row, "state", command),
        "host": text(row, "hostid"),
        "host_name": text(row, "hostname"),
        "hypervisor": text(row, "hypervisor"),
        "template_name": text(row, "templatename"),
        "offered": flag(row, "livepatchavailable"),
    }


def router_row(row: Mapping[str, Json], command: str) -> ListedVm:
    """Return a row of ``listRouters`` or ``listInternalLoadBalancerVMs``.

    Raises:
        InfrastructureError: it lacks what a router cannot be without.
    """
    kinds = {internal_role(): "ilb", _ELASTIC_LB: "elb"}
    state = flag(row, "healthchecksfailed")
    template = text(row, "version")
    return ListedVm(
        kind="ilb" if command == "listInternalLoadBalancerVMs" else kinds.get(text(row, "role"), "router"),
        template="" if template == "UNKNOWN" else template,
        scripts=text(row, "scriptsversion"),
        software=text(row, "softwareversion"),
        redundant=flag(row, "isredundantrouter") or False,
        role=text(row, "redundantstate"),
        network=text(row, "guestnetworkid"),
        network_name=text(row, "guestnetworkname"),
        vpc=text(row, "vpcid"),
        vpc_name=text(row, "vpcname"),
        healthy=None if state is None else not state,
        **_machine(row, command),
        **_owner(row),
    )


def system_vm_row(row: Mapping[str, Json]) -> ListedVm:
    """Return a row of ``listSystemVms``.

    Raises:
        InfrastructureError: it lacks what a system VM cannot be without.
    """
    command = "listSystemVms"
    return ListedVm(
        kind=needed(row, "systemvmtype", command),
        software=text(row, "version"),
        agent=text(row, "agentstate"),
        **_machine(row, command),
        **_owner(row),
    )


def network_row(row: Mapping[str, Json]) -> ListedNetwork:
    """Return a row of ``listNetworks``.

    Raises:
        InfrastructureError: it lacks what a network cannot be without.
    """
    command = "listNetworks"
    return ListedNetwork(
        id=needed(row, "id", command),
        name=text(row, "name") or needed(row, "id", command),
        type=needed(row, "type", command),
        state=needed(row, "state", command),
        vpc=text(row, "vpcid"),
        redundant=flag(row, "redundantrouter") or False,
        restart_required=flag(row, "restartrequired") or False,
        **_owner(row),
    )


def vpc_row(row: Mapping[str, Json]) -> ListedVpc:
    """Return a row of ``listVPCs``.

    Raises:
        InfrastructureError: it lacks what a VPC cannot be without.
    """
    command = "listVPCs"
    return ListedVpc(
        id=needed(row, "id", command),
        name=text(row, "name") or needed(row, "id", command),
        state=needed(row, "state", command),
        redundant=flag(row, "redundantvpcrouter") or False,
        restart_required=flag(row, "restartrequired") or False,
        **_owner(row),
    )
