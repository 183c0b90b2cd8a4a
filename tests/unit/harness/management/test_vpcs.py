"""Restarts of VPCs and of their tiers: every router once, and nothing forgotten."""

from __future__ import annotations

import pytest

from bundle.errors import CheckFailed
from harness import network
from harness.management import NetworkRow, Refused, VpcRow
from tests.unit.harness.simulator import Cloud


def vpc_cloud(tiers: int, **row: object) -> Cloud:
    cloud = Cloud()
    cloud.inventory.add(VpcRow("vpc", declared=network.load(), **row))
    cloud.inventory.add(*(NetworkRow(f"tier{n}", vpc="vpc") for n in range(tiers)))
    return cloud


@pytest.mark.parametrize("tiers", [0, 1, 11])
def test_a_vpc_router_is_patched_exactly_once(tiers: int) -> None:
    cloud = vpc_cloud(tiers)
    cloud.router("r-1-VM", vpc="vpc", networks=tuple(f"tier{n}" for n in range(tiers)))
    cloud.server.restart_vpc("vpc", live_patch=True)
    assert cloud.patches() == ["r-1-VM"]
    assert cloud.rules() == ["r-1-VM"]


def test_internal_load_balancers_of_tiers_are_patched_once_too() -> None:
    cloud = vpc_cloud(3)
    cloud.router("r-1-VM", vpc="vpc")
    cloud.vm("b-2-VM", "ilbvm", networks=("tier0", "tier1"))
    cloud.vm("b-3-VM", "ilbvm", networks=("elsewhere",))
    cloud.server.restart_vpc("vpc", live_patch=True)
    assert cloud.patches() == ["r-1-VM", "b-2-VM"]


def test_idle_tiers_are_noted_and_do_not_stop_the_call() -> None:
    cloud = vpc_cloud(2)
    cloud.inventory.add(NetworkRow("tier1", vpc="vpc", state="Shutdown"))
    cloud.router("r-1-VM", vpc="vpc")
    done = cloud.server.restart_vpc("vpc", live_patch=True)
    assert done.notes == ("tier tier1 is Shutdown: it has no rules to send",)
    assert cloud.patches() == ["r-1-VM"]


def test_a_tier_patches_all_routers_of_its_vpc_once() -> None:
    cloud = vpc_cloud(2, redundant=True)
    cloud.pair("r-1-VM", "r-2-VM", vpc="vpc")
    cloud.server.restart_network("tier1", live_patch=True)
    assert cloud.patches() == ["r-2-VM", "r-1-VM"]


def test_a_tier_with_cleanup_is_refused() -> None:
    with pytest.raises(Refused, match="Cannot restart a VPC tier with cleanup"):
        vpc_cloud(1).server.restart_network("tier0", cleanup=True)


def test_a_vpc_that_fails_keeps_restart_required_on_all_its_tiers() -> None:
    cloud = vpc_cloud(2)
    cloud.router("r-1-VM", vpc="vpc").fails = "x"
    with pytest.raises(CheckFailed):
        cloud.server.restart_vpc("vpc", live_patch=True)
    assert cloud.inventory.vpc("vpc").restart_required
    assert [row.restart_required for row in cloud.inventory.tiers("vpc")] == [True, True]
