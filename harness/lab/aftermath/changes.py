"""Changes of a declared network that people make later, and the connections that tell before and after apart.

Pure reasoning about the declaration, as in :mod:`harness.network.flows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from harness.network import Network
from harness.network.flows import ECHO_PORTS, HTTP_PORT, Flow, flows
from harness.network.model import (
    Acl,
    DeclaredMachine,
    Ingress,
    LoadBalancer,
    LoadBalancerMember,
    PortForward,
    PortRange,
)
from harness.network.orders import Orders
from harness.network.transport import DeliveryStep

# Public ports that no declaration uses, and the MAC address of the machine that comes later.
ADDED = (20001, 20002)
_ANYBODY = IPv4Network("0.0.0.0/0")
_MAC = "02:00:26:c3:7f:fe"
_USER_DATA = "#cloud-config\nhostname: later\n"

CanTry = Callable[[Flow], bool]
NetworkEdit = Callable[[Network], Network]


@dataclass(frozen=True)
class Change:
    """One change.

    Attributes:
        name: what somebody did, for people.
        before: the network until then.
        edit: makes the network that is from then on.
        orders: what the server sends for it, from the orders of the network before and of that after.
    """

    name: str
    before: Network
    edit: NetworkEdit
    orders: Callable[[Orders, Orders], tuple[DeliveryStep, ...]]

    @property
    def after(self) -> Network:
        """The network from then on."""
        return self.edit(self.before)

    def steps(self, release: str, moment: int) -> tuple[DeliveryStep, ...]:
        """Return what the server of a release sends at a moment, in milliseconds since 1970."""
        return self.orders(Orders(self.before, release, moment), Orders(self.after, release, moment))

    def flows(self, can_try: CanTry) -> tuple[Flow, ...]:
        """Return the connections that tell before and after apart, of those that somebody can try."""
        return tuple(flow for flow in told_apart(self.before, self.after) if can_try(flow))


def together(network: Network, made: Iterable[Change]) -> tuple[Network, list[Change]]:
    """Return the network after changes that were each meant for it, made one after the other, and those changes."""
    row = []
    for change in made:
        row.append(replace(change, before=network))
        network = row[-1].after
    return network, row


def told_apart(before: Network, after: Network) -> Iterator[Flow]:
    """Yield every connection that is answered otherwise after a change; what nothing speaks of any more is refused."""
    old = {key(flow): flow for flow in flows(before)}
    new = {key(flow): flow for flow in flows(after)}
    for where, flow in new.items():
        if old.get(where) != flow and (flow.allowed or where in old):
            yield flow
    for where, flow in old.items():
        if flow.allowed and where not in new:
            yield replace(flow, allowed=False)


def key(flow: Flow) -> tuple[str, IPv4Address | IPv6Address, int | None, str]:
    """Return what makes a connection the same one under other rules: who tries what."""
    return flow.source, flow.target, flow.port, flow.protocol


def new_machine(network: Network) -> DeclaredMachine:
    """Return a machine that nobody has declared yet, on the network of the first one."""
    nic = network.inside_of(network.machines[0].address)
    taken = {
        *(machine.address for machine in network.machines),
        *(nic.address.ip for nic in network.nics),
        *(alias.ip for alias in network.aliases),
        *(outsider.address.ip for outsider in network.outsiders),
        nic.gateway,
    }
    free = (address for address in reversed(list(nic.address.network.hosts())) if address not in taken)
    # The last one is a gateway's place by custom.
    next(free)
    return DeclaredMachine("later", _MAC, next(free), _USER_DATA, ())


def forward_added(network: Network, can_try: CanTry) -> Change | None:
    """Return two further port forwards, at least one of which somebody can try, with what lets them in."""
    public = network.source_nat
    if public is None or network.routed:
        return None
    for machine, inner in _served(network):
        rows = [PortForward(public, _only(port), machine.address, _only(inner), "tcp") for port in ADDED]
        change = Change("a forward is added", network, _with_forwards(rows), _sends_added(public))
        if any(flow.allowed for flow in change.flows(can_try)):
            return change
    return None


def _with_forwards(rows: list[PortForward]) -> NetworkEdit:
    def edit(network: Network) -> Network:
        after = replace(network, forwards=(*network.forwards, *rows))
        if network.is_vpc:  # what comes in is for the access list to say
            return after
        let_in = [Ingress(row.public, "tcp", row.public_ports, (_ANYBODY,)) for row in rows]
        return replace(after, ingress=(*after.ingress, *let_in))

    return edit


def _sends_added(public: IPv4Address) -> Callable[[Orders, Orders], tuple[DeliveryStep, ...]]:
    def orders(_before: Orders, after: Orders) -> tuple[DeliveryStep, ...]:
        firewall = () if after.network.is_vpc else after.ingress_changed(public)
        return after.forwards_changed(public) + firewall

    return orders


def forward_changed(network: Network, can_try: CanTry) -> Change | None:
    """Return the change of the first added forward to another machine or port, at which somebody else answers."""
    old = _added(network, ADDED[0])
    if old is None:
        return None
    for machine, inner in _served(network):
        new = replace(old, private=machine.address, private_ports=_only(inner))

        def edit(network: Network, new: PortForward = new) -> Network:
            return replace(network, forwards=tuple(new if row == old else row for row in network.forwards))

        change = Change(
            "a forward is changed", network, edit,
            lambda before, after: before.forwards_changed(old.public, [old]) + after.forwards_changed(old.public),
        )  # fmt: skip
        if any(flow.allowed for flow in change.flows(can_try)):
            return change
    return None


def forward_revoked(network: Network, can_try: CanTry) -> Change | None:
    """Return the revocation of the second added forward; the firewall rule of its port stays."""
    old = _added(network, ADDED[1])
    if old is None:
        return None
    change = Change(
        "a forward is revoked", network,
        lambda network: replace(network, forwards=tuple(row for row in network.forwards if row != old)),
        lambda before, _after: before.forwards_changed(old.public, [old]),
    )  # fmt: skip
    return change if change.flows(can_try) else None


def balancer_changed(network: Network, can_try: CanTry) -> Change | None:
    """Return a load balancer whose connections go to another machine."""
    for balancer in network.load_balancers:
        for moved in _moved(network, balancer):

            def edit(network: Network, old: LoadBalancer = balancer, new: LoadBalancer = moved) -> Network:
                rows = tuple(new if row == old else row for row in network.load_balancers)
                return replace(network, load_balancers=rows)

            change = Change(
                "a balancer is changed", network, edit, lambda _before, after: after.balancers_changed()
            )
            if change.flows(can_try):
                return change
    return None


def rule_revoked(network: Network, can_try: CanTry) -> Change | None:
    """Return the revocation of a rule of the firewall, or of an access list, without which something is refused."""
    if network.is_vpc:
        candidates = [_without_line(network, line) for line in network.acls]
    else:
        candidates = [_without_rule(network, rule) for rule in network.ingress if rule.public]
    for change in candidates:
        tried = change.flows(can_try)
        if tried and not any(flow.allowed for flow in tried):
            return change
    return None


def undone(now: Network, before: Network) -> Change:
    """Return the change back to a network, for each kind of rule that differs."""
    new = [row for row in now.forwards if row not in before.forwards]
    let_in = [row for row in now.ingress if row not in before.ingress]
    touched = dict.fromkeys(row.public for row in set(now.ingress) ^ set(before.ingress) if row.public)
    lines = sorted({row.device for row in set(now.acls) ^ set(before.acls)})

    def orders(was: Orders, then: Orders) -> tuple[DeliveryStep, ...]:
        steps: list[DeliveryStep] = []
        for public in dict.fromkeys(row.public for row in new):
            steps += was.forwards_changed(public, new)
        for outer in touched:
            steps += then.ingress_changed(outer, let_in)
        for device in lines:
            steps += then.list_changed(before.nic(device))
        if now.load_balancers != before.load_balancers:
            steps += then.balancers_changed()
        return tuple(steps)

    return Change("all of that is undone", now, lambda _: before, orders)


def _without_rule(network: Network, rule: Ingress) -> Change:
    public = rule.public
    return Change(
        "a firewall rule is revoked", network,
        lambda network: replace(network, ingress=tuple(row for row in network.ingress if row != rule)),
        lambda before, _after: before.ingress_changed(public, [rule]) if public else (),
    )  # fmt: skip


def _without_line(network: Network, line: Acl) -> Change:
    return Change(
        "a line of an access list is revoked", network,
        lambda network: replace(network, acls=tuple(row for row in network.acls if row != line)),
        lambda _before, after: after.list_changed(network.nic(line.device)),
    )  # fmt: skip


def _moved(network: Network, balancer: LoadBalancer) -> Iterator[LoadBalancer]:
    port = balancer.members[0].port
    members = {member.address for member in balancer.members}
    if port == HTTP_PORT or port in ECHO_PORTS:  # what every machine serves
        for machine in network.machines:
            if machine.address not in members:
                yield replace(balancer, members=(LoadBalancerMember(machine.address, port),))


def _served(network: Network) -> Iterator[tuple[DeclaredMachine, int]]:
    """Yield every machine with each port that it serves; HTTP first, which says who answers."""
    for port in (HTTP_PORT, *ECHO_PORTS):
        for machine in network.machines:
            yield machine, port


def _added(network: Network, port: int) -> PortForward | None:
    return next((row for row in network.forwards if row.public_ports == _only(port)), None)


def _only(port: int) -> PortRange:
    return PortRange(port, port)
