"""Units: what one call patches. A VPC, a network or a system VM, each with its VMs; every router is in exactly one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from bundle.vm_types import Part
from harness.rollout.kinds import parts_of
from harness.rollout.rows import ListedNetwork, ListedVm, ListedVpc

UnitKind: TypeAlias = Literal["system VM", "network", "redundant network", "VPC", "shared network"]
# The order in which they are patched: what disturbs fewest people first.
KINDS: tuple[UnitKind, ...] = get_args(UnitKind)
_COMMANDS: dict[UnitKind, str] = {
    "system VM": "patchSystemVm",
    "network": "restartNetwork",
    "redundant network": "restartNetwork",
    "VPC": "restartVPC",
    "shared network": "restartNetwork",
}
# Console proxies come before secondary storage VMs: a console that is cut is opened again, an upload is not.
_FIRST: tuple[Part, ...] = ("console", "storage")


@dataclass(frozen=True)
class UnitMember:
    """A VM of a unit.

    Attributes:
        id: UUID.
        name: such as ``r-10-VM``.
        kind: as in :class:`harness.rollout.rows.ListedVm`.
        host: UUID of the host it was seen on; empty when unknown.
        host_name: that host's name.
        state: as it was seen.
        template: version of its template; empty when unknown.
        scripts: digest of its scripts.
        software: release of its scripts.
        role: in a pair.
        agent: state of a system VM's agent.
        offered: whether the server says itself that a live patch is available; None where it has no such field.
        beyond: why the unit's call does not reach it; empty when it does.
    """

    id: str
    name: str
    kind: str
    host: str = ""
    host_name: str = ""
    state: str = "Running"
    template: str = ""
    scripts: str = ""
    software: str = ""
    role: str = ""
    agent: str = ""
    offered: bool | None = None
    beyond: str = ""


@dataclass(frozen=True)
class PatchUnit:
    """The VMs that one call patches.

    Attributes:
        id: UUID of the VPC, the network or the system VM.
        kind: which of them it is.
        name: for people.
        zone: UUID of its zone.
        zone_name: its name.
        state: of the network or VPC; of a system VM, its own.
        members: its VMs.
        tiers: how many tiers a VPC has.
        account: whose it is.
        domain: of that account.
        project: UUID of its project; empty without one.
    """

    id: str
    kind: UnitKind
    name: str
    zone: str
    zone_name: str
    state: str
    members: tuple[UnitMember, ...]
    tiers: int = 0
    account: str = ""
    domain: str = ""
    project: str = ""

    @property
    def slug(self) -> str:
        """A name that no other unit has, for reports."""
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", self.name).strip("-")[:48]
        return f"{self.kind.replace(' ', '-')}-{plain}-{self.id[:8]}".replace("--", "-")

    @property
    def title(self) -> str:
        """The unit in the words of a person."""
        vms = ", ".join(member.name for member in self.members)
        return (
            f"{self.kind} {self.name} ({vms})" if vms not in {self.name, ""} else f"{self.kind} {self.name}"
        )

    @property
    def command(self) -> str:
        """The call that patches it."""
        return _COMMANDS[self.kind]

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts that its VMs run on, as far as they are known."""
        return frozenset(member.host for member in self.reached if member.host)

    @property
    def reached(self) -> tuple[UnitMember, ...]:
        """The VMs that the call patches."""
        return tuple(member for member in self.members if not member.beyond)

    @property
    def routers(self) -> tuple[UnitMember, ...]:
        """The routers among the VMs that the call patches."""
        return tuple(member for member in self.reached if member.kind == "router")

    @property
    def patches(self) -> int:
        """Number of patches that the call makes: CloudStack patches all routers of a VPC for each of its tiers."""
        return len(self.reached) * (max(self.tiers, 1) if self.kind == "VPC" else 1)

    @property
    def rank(self) -> tuple[Any, ...]:
        """Its place among the others: by kind, then zone, then size."""
        parts = parts_of(self.members[0].kind) if self.members else frozenset()
        first = next((place for place, part in enumerate(_FIRST) if part in parts), len(_FIRST))
        return KINDS.index(self.kind), self.zone_name, first, self.patches, self.name, self.id


def unit_from(saved: Mapping[str, Any]) -> PatchUnit:
    """Return a unit from what ``dataclasses.asdict`` made of one.

    Raises:
        TypeError: it is none.
        KeyError: it is none.
    """
    members = tuple(UnitMember(**member) for member in saved["members"])
    return PatchUnit(**{**saved, "members": members})


IN_VPC = "CloudStack does not live patch an internal load balancer in a VPC (since 4.18.2)"
ELASTIC = "restartNetwork does not reach an elastic load balancer"
# A template's name tells its version where the list does not: systemvm-kvm-4.19.1.
_VERSION = re.compile(r"(?<![\d.])(4\.\d{1,2}(?:\.\d{1,3}){0,2})(?![\d.])")


def _member(row: ListedVm, *, in_vpc: bool) -> UnitMember:
    beyond = ELASTIC if row.kind == "elb" else IN_VPC if row.kind == "ilb" and in_vpc else ""
    named = _VERSION.search(row.template_name)
    return UnitMember(
        id=row.id,
        name=row.name,
        kind=row.kind,
        host=row.host,
        host_name=row.host_name or row.host,
        state=row.state,
        template=row.template or (named[1] if named else ""),
        scripts=row.scripts,
        software=row.software,
        role=(row.role or "UNKNOWN") if row.redundant else "",
        agent=row.agent,
        offered=row.offered,
        beyond=beyond,
    )


@dataclass(frozen=True)
class Grouped:
    """The units of a cloud, and the VMs that belong to none, with the reason."""

    units: tuple[PatchUnit, ...]
    strays: tuple[tuple[ListedVm, str], ...]


def group(vms: Iterable[ListedVm], networks: Iterable[ListedNetwork], vpcs: Iterable[ListedVpc]) -> Grouped:
    """Return the units of a cloud: each VM is in exactly one of them, or among the strays."""
    tables = {row.id: row for row in networks}, {row.id: row for row in vpcs}
    tiers: dict[str, int] = {}
    for network in tables[0].values():
        if network.vpc:
            tiers[network.vpc] = tiers.get(network.vpc, 0) + 1
    units: dict[str, PatchUnit] = {}
    strays = []
    for row in {row.id: row for row in vms}.values():
        empty = _unit_of(row, *tables, tiers)
        if isinstance(empty, str):
            strays.append((row, empty))
            continue
        unit = units.setdefault(empty.id, empty)
        units[empty.id] = replace(unit, members=(*unit.members, _member(row, in_vpc=unit.kind == "VPC")))
    for vpc in tables[1].values():
        if vpc.id not in units:
            units[vpc.id] = _of_vpc(vpc, tiers)
    found = [replace(unit, kind="redundant network") if _pair(unit) else unit for unit in units.values()]
    return Grouped(tuple(sorted(found, key=lambda unit: unit.rank)), tuple(strays))


def _pair(unit: PatchUnit) -> bool:
    return unit.kind == "network" and any(member.role for member in unit.members)


def _of_vpc(vpc: ListedVpc, tiers: Mapping[str, int]) -> PatchUnit:
    owner = (vpc.account, vpc.domain, vpc.project)
    return PatchUnit(
        vpc.id, "VPC", vpc.name, vpc.zone, vpc.zone_name, vpc.state, (), tiers.get(vpc.id, 0), *owner
    )


def _unit_of(
    row: ListedVm,
    networks: Mapping[str, ListedNetwork],
    vpcs: Mapping[str, ListedVpc],
    tiers: Mapping[str, int],
) -> PatchUnit | str:
    """Return the unit of a VM, without members yet; or why it has none."""
    if not row.is_router:
        return PatchUnit(row.id, "system VM", row.name, row.zone, row.zone_name, row.state, ())
    network = networks.get(row.network)
    vpc_id = row.vpc or (network.vpc if network else "")
    if vpc_id:
        vpc = vpcs.get(vpc_id) or ListedVpc(
            vpc_id, row.vpc_name or vpc_id, "unknown", zone=row.zone, zone_name=row.zone_name
        )
        return _of_vpc(vpc, tiers)
    if network is None:
        named = f" {row.network_name or row.network}" if row.network else ""
        return f"its network{named} is not in the list of networks" if named else "it has no guest network"
    kind: UnitKind = "shared network" if network.type == "Shared" else "network"
    owner = (network.account, network.domain, network.project)
    return PatchUnit(
        network.id, kind, network.name, network.zone, network.zone_name, network.state, (), 0, *owner
    )
