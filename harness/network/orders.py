"""Orders of a management server, with sequence and form: at a start, when a network is restarted, for a change.

A start sends everything a router needs; a restart without cleanup, which is what follows a live patch, sends much less.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from harness.network import databags, machine_messages, vpns
from harness.network.model import (
    DeclaredMachine,
    DeclaredNic,
    Egress,
    Ingress,
    LoadBalancer,
    Network,
    PortForward,
)
from harness.network.transport import Databag, DeliveryStep, Direct, Plug, Together
from harness.network.wire import Message, reaches

# What makes a router that runs take a message about its health checks at once.
_RECONFIGURE = ("/opt/cloud/bin/configure.py monitor_service.json",)


@dataclass(frozen=True)
class Orders:
    """The orders of one server for one router.

    Attributes:
        network: the declaration, as that router sees it.
        release: of the management server.
        moment: of the orders, in milliseconds since 1970.
        version: of template and scripts as the router told them; None where it was not asked.
    """

    network: Network
    release: str
    moment: int = 0
    version: tuple[str, str] | None = None

    def start(self) -> tuple[DeliveryStep, ...]:
        """Return what a starting router is sent; a VPC router's NICs are plugged in on the way."""
        network = self.network
        if network.is_balancer:
            return self._directly([self._balancers()])
        if network.is_vpc:
            return self._start_vpc()
        late = network.publics[1:]
        started = self._together([*self._start_rules(network.inside[0], plugged=late), *self._machines(None)])
        return (*(Plug(nic.device) for nic in late), *started)

    def reapply(self) -> tuple[DeliveryStep, ...]:
        """Return what a restart without cleanup sends: neither tiers nor routes, leases, metadata or health data."""
        network = self.network
        if network.is_balancer:
            return self._directly([self._balancers()])
        if not network.is_vpc:
            return self._together(self._reapplied(network.inside[0]))
        # Once a tier. The VPN of a VPC belongs to none, and is not among it.
        return tuple(step for nic in network.inside for step in self._together(self._reapplied(nic)))

    def deployed(self, machine: DeclaredMachine, password: str | None = None) -> tuple[DeliveryStep, ...]:
        """Return what is sent for a new machine, or one that starts."""
        new = machine_messages.password(machine, password) if password is not None else None
        return self._directly(
            [
                machine_messages.dhcp_entry(self.network, machine),
                new,
                machine_messages.metadata(self.network, machine, self.release),
            ]
        )

    def expunged(self, machine: DeclaredMachine) -> tuple[DeliveryStep, ...]:
        """Return what is sent when a machine is gone for good; one that stops is not spoken of."""
        return self._directly([machine_messages.dhcp_entry(self.network, machine, remove=True)])

    def password_reset(self, machine: DeclaredMachine, password: str) -> tuple[DeliveryStep, ...]:
        """Return what is sent for a new password."""
        return self._directly([machine_messages.password(machine, password)])

    def metadata_changed(self, machine: DeclaredMachine) -> tuple[DeliveryStep, ...]:
        """Return what is sent for new user data or a new key."""
        return self._directly([machine_messages.metadata(self.network, machine, self.release)])

    def ingress_changed(
        self, public: IPv4Address, gone: Collection[Ingress] = ()
    ) -> tuple[DeliveryStep, ...]:
        """Return what is sent when firewall rules of a public address have come, or are ``gone``."""
        return self._directly([databags.ingress(self.network, public, gone)])

    def egress_changed(self, gone: Collection[Egress] = ()) -> tuple[DeliveryStep, ...]:
        """Return what is sent when egress rules have come, or are ``gone``."""
        return self._directly([databags.egress(self.network, gone)])

    def firewall6_changed(self) -> tuple[DeliveryStep, ...]:
        """Return what is sent when an IPv6 rule has come."""
        return self._directly([databags.firewall6(self.network, default=False)])

    def forwards_changed(
        self, public: IPv4Address, gone: Collection[PortForward] = ()
    ) -> tuple[DeliveryStep, ...]:
        """Return what is sent when port forwards of a public address have come, or are ``gone``."""
        return self._directly([databags.forwards(self.network, public=public, gone=gone)])

    def balancers_changed(self, gone: Collection[LoadBalancer] = ()) -> tuple[DeliveryStep, ...]:
        """Return what is sent when load balancers have changed, or are ``gone``."""
        return self._directly([databags.load_balancers(self.network, self.release, self.moment, gone)])

    def static_nat_changed(self, public: IPv4Address, *, on: bool = True) -> tuple[DeliveryStep, ...]:
        """Return what is sent when an address has become a machine's own, or is that no longer."""
        rule = databags.static_nat(self.network, public=public, revoke=not on)
        seen = self.network if on else replace(self.network, static_nats=())
        return self._directly([*databags.addresses(seen, [public]), rule])

    def released(self, public: IPv4Address) -> tuple[DeliveryStep, ...]:
        """Return what is sent when a public address is given back."""
        return self._directly(databags.addresses(self.network, [public], add=False))

    def tier_added(self, nic: DeclaredNic) -> tuple[DeliveryStep, ...]:
        """Return what is sent for a tier more of a VPC that runs."""
        behind = self._behind(nic)
        watch = machine_messages.monitor(self.network, self._watched(), behind, self.version)
        return (
            Plug(nic.device),
            *self._directly([databags.guest_network(self.network, nic)]),
            Direct(self._bag(watch, scripts=_RECONFIGURE)),
            *self._together(self._reapplied(nic)),
        )

    def tier_removed(self, nic: DeclaredNic) -> tuple[DeliveryStep, ...]:
        """Return what is sent before the NIC of a tier is unplugged."""
        return self._directly([databags.guest_network(self.network, nic, add=False)])

    def list_changed(self, nic: DeclaredNic) -> tuple[DeliveryStep, ...]:
        """Return what is sent when the access list of a tier or private gateway has changed."""
        return self._directly([databags.access_list(self.network, nic, self.release)])

    def vpn_users_changed(self, gone: Collection[str] = ()) -> tuple[DeliveryStep, ...]:
        """Return what is sent when VPN users have come, or those with some names are ``gone``."""
        return self._directly([vpns.vpn_users(self.network, gone)])

    def vpn_switched(self, *, on: bool) -> tuple[DeliveryStep, ...]:
        """Return what is sent when the remote-access VPN is switched."""
        return self._directly(vpns.vpn(self.network, create=on))

    def health_refreshed(self) -> tuple[DeliveryStep, ...]:
        """Return what is sent every some minutes: no file of it is kept."""
        watch = machine_messages.monitor(self.network, None, self.network.machines, self.version)
        return (Direct(self._bag(watch, scripts=_RECONFIGURE, forget=True)),)

    def _start_vpc(self) -> tuple[DeliveryStep, ...]:
        network = self.network
        steps: list[DeliveryStep] = [Plug(nic.device) for nic in network.publics]
        if network.source_nat is not None:
            steps += self._directly(databags.addresses(network, [network.source_nat]))
        for nic in network.private:
            steps.append(Plug(nic.device))
            steps += self._directly(
                [databags.private_gateway(nic), databags.access_list(network, nic, self.release)]
            )
        for nic in network.inside:
            steps.append(Plug(nic.device))
            steps += self._directly([databags.guest_network(network, nic)])
        steps += self._directly([databags.static_routes(network), *vpns.vpn(network)])
        if network.publics and network.redundant is None:
            steps += self._directly(
                [machine_messages.monitor(network, ("ssh",), network.machines, self.version)]
            )
        for nic in network.inside:
            rules = [*self._start_rules(nic), databags.access_list(network, nic, self.release)]
            steps += self._together([*rules, *self._machines(nic)])
        return (*steps, *self._directly([self._balancers(), *vpns.site_to_site(network)]))

    def _start_rules(self, nic: DeclaredNic, plugged: Sequence[DeclaredNic] = ()) -> Iterator[Message | None]:
        """Yield the rules of one network: all that there are, or of a VPC those of a tier."""
        network = self.network
        yield from databags.addresses(
            network, self._own(nic), plugged=frozenset(late.device for late in plugged)
        )
        yield databags.egress_at_start(network)
        yield databags.firewall6(network, default=True)
        yield databags.bgp_peers(network, nic)
        yield databags.static_nat(network, nic)
        if not network.routed:
            yield databags.ingress(network)
        yield databags.forwards(network, nic)
        if not network.is_vpc:
            yield from vpns.vpn(network)
            yield self._balancers()
        yield from machine_messages.aliases(network)

    def _machines(self, nic: DeclaredNic | None) -> Iterator[Message]:
        """Yield what the machines behind a NIC need, or all of them."""
        network = self.network
        machines = network.machines if nic is None else self._behind(nic)
        if network.redundant is None:
            yield machine_messages.monitor(network, self._watched(), machines, self.version)
        yield from (machine_messages.dhcp_entry(network, machine) for machine in machines)
        yield from (machine_messages.metadata(network, machine, self.release) for machine in machines)

    def _reapplied(self, nic: DeclaredNic) -> Iterator[Message | None]:
        network = self.network
        yield databags.default_egress(network)
        yield databags.egress(network)
        yield from databags.addresses(network, self._own(nic))
        yield databags.bgp_peers(network, nic)
        yield databags.static_nat(network, nic)
        yield databags.ingress(network)
        yield databags.forwards(network, nic)
        members = {member.address for rule in network.load_balancers for member in rule.members}
        if not network.is_vpc:
            yield self._balancers()
            yield from vpns.vpn(network)
        elif any(network.inside_of(member) == nic for member in members):
            yield self._balancers()  # all of the VPC, as often as a tier has any
        yield databags.access_list(network, nic, self.release)

    def _own(self, nic: DeclaredNic) -> list[IPv4Address] | None:
        """Return the addresses that belong to a tier; None, all, where there are no tiers."""
        network = self.network
        if not network.is_vpc:
            return None
        behind = [
            *((rule.public, rule.private) for rule in network.static_nats),
            *((rule.public, rule.private) for rule in network.forwards),
            *((rule.public, member.address) for rule in network.load_balancers for member in rule.members),
        ]
        own = {public for public, private in behind if network.inside_of(private) == nic}
        return sorted(own - {network.source_nat})

    def _behind(self, nic: DeclaredNic) -> tuple[DeclaredMachine, ...]:
        return tuple(
            machine for machine in self.network.machines if self.network.inside_of(machine.address) == nic
        )

    def _watched(self) -> tuple[str, ...]:
        balanced = ("loadbalancing",) if self.network.load_balancers else ()
        return ("dhcp", *balanced, "ssh", "webserver")

    def _balancers(self) -> Message | None:
        return databags.load_balancers(self.network, self.release, self.moment)

    def _directly(self, found: Iterable[Message | None]) -> tuple[DeliveryStep, ...]:
        return tuple(Direct(bag) for bag in self._bags(found))

    def _together(self, found: Iterable[Message | None]) -> tuple[DeliveryStep, ...]:
        return (Together(self._bags(found)),)

    def _bags(self, found: Iterable[Message | None]) -> tuple[Databag, ...]:
        return tuple(
            self._bag(message)
            for message in found
            if message is not None and reaches(self.release, message.SINCE)
        )

    def _bag(self, message: Message, scripts: tuple[str, ...] = (), *, forget: bool = False) -> Databag:
        content = {**message.wire(self.release), "type": message.TYPE}
        return Databag(message.STEM, content, forget, scripts)
