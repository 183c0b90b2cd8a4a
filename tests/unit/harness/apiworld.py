"""A served cloud in memory: the API of the management server over HTTP, with simulated system VMs behind it.

A first test
------------
Make a cloud with something in it, serve it, and call it with any client::

    world = World()
    world.router("r-1-VM", network="web", owner="user")
    with world.served() as url:
        client = world.client(url, "admin")           # a cs.CloudStack
        row = client.listRouters(listall=True)["router"][0]
        client.restartNetwork(id=row["guestnetworkid"], livepatch=True, fetch_result=True)

``world.cloud`` is the simulator's: its guests fail, lie and hang as their fields say. ``World(server=...)`` takes
another class of server, such as one with CloudStack's own faults; further keywords are those of ``ApiService``.

Many routers
------------
``populate(world, networks=1500, vpcs=200, pairs=100)`` fills a cloud: hosts, zones, owners and projects are spread in a
fixed order, so that the same numbers give the same cloud.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cs import CloudStack

from harness import network
from harness.management import NetworkRow, VpcRow
from harness.management.api import Account, Accounts, ApiLimits, ApiService
from harness.management.api.app import app
from harness.management.api.serving import served
from harness.management.inventory import Location
from harness.management.server import ManagementServer
from tests.unit.harness.simulator import Cloud, SimulatedVm, Vrrp

PEOPLE = (
    Account("admin", "Admin"),
    Account("operator", "DomainAdmin", "ROOT/customers"),
    Account("user", "User", "ROOT/customers"),
    Account("stranger", "User", "ROOT/elsewhere"),
)


class World:
    """A simulated cloud, and the service in front of it."""

    def __init__(
        self,
        server: type[ManagementServer] = ManagementServer,
        limits: ApiLimits | None = None,
        server_options: dict[str, Any] | None = None,
        **service: Any,
    ) -> None:
        """Make an empty cloud.

        Args:
            server: class of the server behind the API.
            limits: bounds and settings.
            server_options: keywords of that server.
            **service: further keywords of ``ApiService``.
        """
        self.cloud = Cloud(**(server_options or {}))
        self.cloud.server = server(
            self.cloud.inventory, self.cloud.bundle, **{"settle_deadline": 0.0, **(server_options or {})}
        )
        self.limits = limits or ApiLimits()
        self.service = ApiService(self.cloud.server, accounts=Accounts(PEOPLE), limits=self.limits, **service)

    def system_vm(self, name: str, kind: str, host: str = "host1", zone: str = "zone1") -> SimulatedVm:
        """Add a console proxy or storage VM."""
        return self.cloud.vm(name, kind, agent="Up", zone=zone, location=_place(len(self.cloud.guests), host))

    def network(self, name: str, owner: str = "user", rules: bool = True, **row: Any) -> NetworkRow:
        """Add a network, unless it is there."""
        if name not in self.cloud.inventory.networks:
            declared = network.load() if rules else None
            self.cloud.inventory.add(NetworkRow(name, declared=declared, name=name, owner=owner, **row))
        return self.cloud.inventory.networks[name]

    def vpc(self, name: str, tiers: int = 1, owner: str = "user", **row: Any) -> VpcRow:
        """Add a VPC with its tiers, whose names are its own and a number."""
        made = VpcRow(name, name=name, owner=owner, **row)
        self.cloud.inventory.add(made)
        for number in range(1, tiers + 1):
            self.network(
                f"{name}-{number}", owner=owner, rules=False, vpc=name, zone=made.zone, project=made.project
            )
        return made

    def router(
        self, name: str, *, network: str = "", vpc: str = "", host: str = "host1", **row: Any
    ) -> SimulatedVm:
        """Add a router of a network or of a VPC; the network is made when it is not there."""
        owner = row.pop("owner", "user")
        if network:
            row["zone"] = self.network(network, owner).zone
        if vpc:
            row["zone"] = self.cloud.inventory.vpcs[vpc].zone
        networks = (network,) if network else ()
        return self.cloud.router(
            name, networks=networks, vpc=vpc, location=_place(len(self.cloud.guests), host), **row
        )

    def pair(
        self, primary: str, backup: str, network: str, hosts: tuple[str, str] = ("host1", "host2")
    ) -> Vrrp:
        """Add a redundant pair of routers of a network."""
        row = self.network(network)
        self.cloud.inventory.networks[network] = replace(row, redundant=True)
        vrrp = Vrrp(primary, [primary, backup])
        for name, host in zip((primary, backup), hosts, strict=True):
            self.router(name, network=network, host=host, redundant=True).vrrp = vrrp
        return vrrp

    @contextmanager
    def served(self, look: bool = True) -> Iterator[str]:
        """Serve it on loopback while the block runs; yields the address of the API."""
        if look:
            self.service.watch.look_at_all()
        with served(app(self.service, ["127.0.0.1", "localhost"]), self.limits) as url:
            try:
                yield f"{url}/client/api"
            finally:
                self.service.close()

    def client(self, url: str, name: str, **options: Any) -> CloudStack:
        """Return a client of an account."""
        account = self.service.accounts.named(name)
        settings = {"poll_interval": 0.02, **options}
        return CloudStack(url, key=account.api_key, secret=account.secret, **settings)


def _place(number: int, host: str) -> Location:
    low, high = number % 250 + 1, number // 250
    return Location(
        host=host, control=f"169.254.{high}.{low}", public=f"192.0.2.{low}", private=f"10.0.{high}.{low}",
        inside=f"10.1.{high}.{low}", template="systemvm-kvm-4.21", created="2026-11-01T10:00:00+0000",
    )  # fmt: skip


def populate(
    world: World, *, networks: int, vpcs: int = 0, pairs: int = 0, hosts: int = 50, zones: int = 2
) -> None:
    """Fill a cloud: a console proxy and a storage VM a zone, and routers in a fixed order."""
    for zone in range(1, zones + 1):
        world.system_vm(f"v-{zone}-VM", "consoleproxy", f"host{zone}", f"zone{zone}")
        world.system_vm(f"s-{zone}-VM", "secstorage", f"host{zone + zones}", f"zone{zone}")
    number = 0

    def host() -> str:
        return f"host{number % hosts + 1}"

    def owner() -> str:
        return ("user", "stranger")[number % 2]

    for _ in range(networks):
        number += 1
        name, project = f"net-{number}", "" if number % 10 else "project1"
        world.network(name, owner(), rules=False, zone=f"zone{number % zones + 1}", project=project)
        world.router(f"r-{number}-VM", network=name, host=host())
    for _ in range(vpcs):
        number += 1
        name = f"vpc-{number}"
        world.vpc(name, tiers=number % 4, owner=owner(), zone=f"zone{number % zones + 1}")
        world.router(f"r-{number}-VM", vpc=name, host=host())
    for _ in range(pairs):
        number += 2
        name = f"net-{number}"
        world.network(name, owner(), rules=False, zone=f"zone{number % zones + 1}")
        world.pair(f"r-{number}-VM", f"r-{number + 1}-VM", name, (host(), f"host{(number + 1) % hosts + 1}"))
