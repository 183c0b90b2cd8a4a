"""Ansible's own CloudStack modules, unmodified, against the served API: ``nox -s ansible`` installs and runs them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.management.api import uid
from tests.clients import outside
from tests.unit.harness.apiworld import World
from tests.unit.harness.simulator import NEW

pytestmark = pytest.mark.skipif(outside.ENVIRONMENT not in os.environ, reason=outside.REASON)


@pytest.fixture
def world() -> World:
    world = World()
    world.system_vm("s-2-VM", "secstorage")
    world.router("r-3-VM", network="web", owner="admin")
    return world


def play(world: World, url: str, folder: Path, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    account = world.service.accounts.named("admin")
    return outside.play(url, account.api_key, account.secret, folder, tasks)


def test_its_modules_find_a_router_and_restart_its_network(world: World, tmp_path: Path) -> None:
    tasks = [
        {"ngine_io.cloudstack.cs_router": {"name": "r-3-VM", "zone": "zone1", "state": "present"}},
        {
            "ngine_io.cloudstack.cs_network": {
                "name": "web",
                "zone": "zone1",
                "state": "restarted",
                "clean_up": False,
            }
        },
    ]
    with world.served() as url:
        router, network = play(world, url, tmp_path, tasks)
    assert "failed" not in router, router
    assert (router["template_version"], router["requires_upgrade"]) == ("4.21.0", False)
    assert "failed" not in network, network
    assert network["changed"] is True
    assert world.cloud.rules() == ["r-3-VM"]
    assert world.cloud.patches() == []  # it has no word for a live patch


def test_a_task_patches_by_cs_and_a_failed_patch_fails_the_task(world: World, tmp_path: Path) -> None:
    patch = {"ansible.builtin.command": f"cs patchSystemVm id={uid('vm', 's-2-VM')} forced=true"}
    with world.served() as url:
        (done,) = play(world, url, tmp_path, [patch])
        assert done["rc"] == 0, done
        assert world.cloud.guests["s-2-VM"].signature == NEW
        world.cloud.guests["s-2-VM"].fails = "cloud is not active"
        (failed,) = play(world, url, tmp_path, [patch])
    assert failed["failed"] is True
    assert "cloud is not active" in failed["stdout"]
