"""The management server's knowledge: its tables of VMs, networks and VPCs, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, TypeVar

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
    """

    id: str
    declared: Network | None = None
    state: NetworkState = "Implemented"
    vpc: str = ""
    redundant: bool = False
    offers_redundancy: bool = False
    sdn: bool = False
    restart_required: bool = False


@dataclass(frozen=True)
class VpcRow:
    """A VPC. ``declared`` holds the rules of all its tiers, as its routers get them."""

    id: str
    declared: Network | None = None
    redundant: bool = False
    offers_redundancy: bool = False
    restart_required: bool = False


@dataclass
class Inventory:
    """The tables, by id."""

    vms: dict[str, Vm] = field(default_factory=dict)
    networks: dict[str, NetworkRow] = field(default_factory=dict)
    vpcs: dict[str, VpcRow] = field(default_factory=dict)

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

    def tiers(self, vpc_id: str) -> tuple[NetworkRow, ...]:
        """Return the tiers of a VPC."""
        return tuple(row for row in self.networks.values() if row.vpc == vpc_id)

    def routers_of_network(self, network_id: str) -> tuple[Vm, ...]:
        """Return the routers and internal load balancers of a network that is no tier.

        Raises:
            UsageError: a VM of the network is of a type that the catalogue does not have.
        """
        return tuple(
            vm for vm in self.vms.values() if network_id in vm.networks and vm.kind.family in _OF_NETWORKS
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
            for vm in self.vms.values()
            if (vm.vpc == vpc_id and vm.kind.family == "router")
            or (tiers & set(vm.networks) and vm.kind.family == "balancer")
        )

    def learn(self, vm_id: str, template: str, scripts: str) -> None:
        """Remember what a VM said of its versions."""
        row = self.vm(vm_id)
        self.vms[vm_id] = replace(row, template_version=template.strip(), scripts_version=scripts.strip())

    def restart_is_due(self, rows: Iterable[NetworkRow | VpcRow], due: bool) -> None:
        """Set or clear "restart required"."""
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
