"""A served cloud with one of everything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.harness.apiworld import World


def inhabited() -> World:
    """Return a cloud with a router, a pair, a VPC, a balancer, a console proxy and a storage VM."""
    world = World()
    world.system_vm("v-1-VM", "consoleproxy")
    world.system_vm("s-2-VM", "secstorage", "host2")
    world.router("r-3-VM", network="web")
    world.pair("r-4-VM", "r-5-VM", "paired")
    world.vpc("shop", tiers=2, owner="stranger")
    world.router("r-6-VM", vpc="shop")
    world.cloud.vm("b-7-VM", "ilbvm", networks=("shop-1",))
    return world


@pytest.fixture
def world() -> World:
    return inhabited()


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with world.served() as address:
        yield address
