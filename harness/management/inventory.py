"""The management server's knowledge: its tables of VMs, networks and VPCs, in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, TypeVar

from bundle import catalogue
from bundle.errors import UsageError
from bundle.vm_types import VmType
from harness.guest.protocols import Guest
from harness.network import Network

T = TypeVar("T")
# The families of VMs that a network's restart is about.
_OF_NETWORKS = {"router", "balancer"}
NetworkState: TypeAlias = Literal["Allocated", "Implemented", "Setup", "Shutdown"]


@dataclass(frozen=True)
class Location:
    """The host and the addresses of a VM, for lists alone: no call decides by it. An empty word is not known.

    Attributes:
        host: name of its host.
        hypervisor: what runs it.
        control: address that the host reaches it at.
        public: its first public address.
        private: its address on the management network.
        inside: its first address on a network that it serves.
        gateway: its way out.
        template: name of its template.
        created: when it was made, UTC, ISO 8601.
    """

    host: str = ""
    hypervisor: str = "KVM"
    control: str = ""
    public: str = ""
    private: str = ""
    inside: str = ""
    gateway: str = ""
    template: str = ""
    created: str = ""


@dataclass(frozen=True)
class Vm:
    """A system VM.

    Attributes:
        id: what calls name it by.
        name: instance name, such as ``r-10-VM``.
        type: a word of the catalogue, such as ``router``; None for a VM that somebody else started.
        guest: the way in.
        state: as the server sees it; only ``Running`` VMs are patched.
        networks: ids of the networks that it serves.
        vpc: id of its VPC, if any.
        template_version: what the server believes of the template.
        scripts_version: what the server believes of the scripts, without blanks around it.
        declared: its network as this router sees it; None means as its row says. The routers of a redundant pair
            have addresses of their own.
        software_version: release of the server that started or patched it last, as far as the server knows.
        redundant: whether it is one of a pair.
        role: what it was in its pair when it was asked last.
        agent: state of its agent, such as ``Up``; empty for a VM without one.
        agent_version: what its agent said when it connected last.
        zone: name of its zone.
        location: its host and its addresses.
        eyes: a second way in, for a look at it while a job uses the first; None where there is but one.
    """

    id: str
    name: str
    type: str | None
    guest: Guest
    state: str = "Running"
    networks: tuple[str, ...] = ()
    vpc: str = ""
    template_version: str = ""
    scripts_version: str = ""
    declared: Network | None = None
    software_version: str = ""
    redundant: bool = False
    role: str = "UNKNOWN"
    agent: str = ""
    agent_version: str = ""
    zone: str = "zone1"
    location: Location = Location()
    eyes: Guest | None = None

    @property
    def kind(self) -> VmType:
        """The catalogue's row of its type.

        Raises:
            UsageError: the catalogue has no such type, or nobody told the type.
        """
        if self.type is None:
            raise UsageError(f"{self.name}: nobody has told the type of this VM")
        return catalogue.vm_type(self.type)

    @property
    def may_have_agent(self) -> bool:
        """True if a VM agent may run in it: also where nobody has told its type.

        Raises:
            UsageError: the catalogue has no such type.
        """
        return self.type is None or "agent" in self.kind.has


@dataclass(frozen=True)
class NetworkRow:
    """A guest network, or a tier of a VPC.

    Attributes:
        id: what calls name it by.
        declared: the network with its rules; None for one without any.
        state: only ``Implemented`` and ``Setup`` networks can be restarted.
        vpc: id of the VPC that it is a tier of, if any.
        redundant: whether it has a pair of routers.
        offers_redundancy: whether its offering permits one.
        sdn: whether it is one of an SDN controller, which cannot be restarted.
        restart_required: whether a restart is due.
        name: what its owner calls it; its id without one.
        owner: name of the account that it belongs to; empty for the system's.
        project: name of the project that it belongs to, if any.
        shared: whether it is a shared network.
        zone: name of its zone.
    """

    id: str
    declared: Network | None = None
    state: NetworkState = "Implemented"
    vpc: str = ""
    redundant: bool = False
    offers_redundancy: bool = False
    sdn: bool = False
    restart_required: bool = False
    name: str = ""
    owner: str = ""
    project: str = ""
    shared: bool = False
    zone: str = "zone1"


@dataclass(frozen=True)
class VpcRow:
    """A VPC. ``declared`` holds the rules of all its tiers, as its routers get them; the rest is as a network's."""

    id: str
    declared: Network | None = None
    redundant: bool = False
    offers_redundancy: bool = False
    restart_required: bool = False
    name: str = ""
    owner: str = ""
    project: str = ""
    zone: str = "zone1"


@dataclass
class Inventory:
    """The tables, by id."""

    vms: dict[str, Vm] = field(default_factory=dict)
    networks: dict[str, NetworkRow] = field(default_factory=dict)
    vpcs: dict[str, VpcRow] = field(default_factory=dict)
    _changing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *rows: Vm | NetworkRow | VpcRow) -> None:
        """Add rows to their tables."""
        for row in rows:
            if isinstance(row, Vm):
                self.vms[row.id] = row
            elif isinstance(row, NetworkRow):
                self.networks[row.id] = row
            else:
                self.vpcs[row.id] = row

    def vm(self, vm_id: str) -> Vm:
        """Return a VM.

        Raises:
            UsageError: there is none.
        """
        return self._row(self.vms, vm_id, "system VM")

    def network(self, network_id: str) -> NetworkRow:
        """Return a network.

        Raises:
            UsageError: there is none.
        """
        return self._row(self.networks, network_id, "network")

    def vpc(self, vpc_id: str) -> VpcRow:
        """Return a VPC.

        Raises:
            UsageError: there is none.
        """
        return self._row(self.vpcs, vpc_id, "VPC")

    def all_vms(self) -> list[Vm]:
        """Return all VMs, as they are known at this moment."""
        return list(self.vms.values())

    def all_networks(self) -> list[NetworkRow]:
        """Return all networks, likewise."""
        return list(self.networks.values())

    def all_vpcs(self) -> list[VpcRow]:
        """Return all VPCs, likewise."""
        return list(self.vpcs.values())

    def tiers(self, vpc_id: str) -> tuple[NetworkRow, ...]:
        """Return the tiers of a VPC."""
        return tuple(row for row in self.all_networks() if row.vpc == vpc_id)

    def routers_of_network(self, network_id: str) -> tuple[Vm, ...]:
        """Return the routers and internal load balancers of a network that is no tier.

        Raises:
            UsageError: a VM of the network is of a type that the catalogue does not have.
        """
        return tuple(
            vm for vm in self.all_vms() if network_id in vm.networks and vm.kind.family in _OF_NETWORKS
        )

    def routers_of_vpc(self, vpc_id: str) -> tuple[Vm, ...]:
        """Return the routers of a VPC and the internal load balancers of its tiers, each once.

        CloudStack forgets the load balancers since 4.18.2.

        Raises:
            UsageError: a VM of the VPC is of a type that the catalogue does not have.
        """
        tiers = {row.id for row in self.tiers(vpc_id)}
        return tuple(
            vm
            for vm in self.all_vms()
            if (vm.vpc == vpc_id and vm.kind.family == "router")
            or (tiers & set(vm.networks) and vm.kind.family == "balancer")
        )

    def learn(self, vm_id: str, template: str, scripts: str) -> None:
        """Remember what a VM said of its versions."""
        self.change(vm_id, template_version=template.strip(), scripts_version=scripts.strip())

    def change(self, vm_id: str, **fields: Any) -> None:
        """Change what is known of a VM; one that is gone meanwhile is left alone."""
        with self._changing:
            if vm_id in self.vms:
                self.vms[vm_id] = replace(self.vms[vm_id], **fields)

    def restart_is_due(self, rows: Iterable[NetworkRow | VpcRow], due: bool) -> None:
        """Set or clear "restart required"."""
        with self._changing:
            for row in rows:
                if isinstance(row, NetworkRow):
                    self.networks[row.id] = replace(row, restart_required=due)
                else:
                    self.vpcs[row.id] = replace(row, restart_required=due)

    @staticmethod
    def _row(table: dict[str, T], key: str, what: str) -> T:
        try:
            return table[key]
        except KeyError:
            raise UsageError(f"invalid parameter id {key!r}: there is no such {what}") from None
