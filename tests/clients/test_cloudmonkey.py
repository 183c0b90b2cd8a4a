"""CloudMonkey, unmodified, against the served API with simulated VMs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.management.api import uid
from tests.clients import cloudmonkey
from tests.clients.cloudmonkey import CloudMonkey, discovered
from tests.unit.harness.apiworld import World
from tests.unit.harness.simulator import NEW

pytestmark = pytest.mark.skipif(cloudmonkey.PROGRAM not in os.environ, reason=cloudmonkey.REASON)
STORAGE = uid("vm", "s-2-VM")
Monkeys = Callable[[str], CloudMonkey]


@pytest.fixture
def world() -> World:
    world = World()
    world.system_vm("s-2-VM", "secstorage")
    world.router("r-3-VM", network="web")
    return world


@pytest.fixture
def monkeys(world: World, tmp_path: Path) -> Iterator[Monkeys]:
    """Return the client of an account, which has discovered its commands."""

    def of(name: str) -> CloudMonkey:
        account = world.service.accounts.named(name)
        home = tmp_path / name
        home.mkdir()
        client = CloudMonkey(url, {"apikey": account.api_key, "secret": account.secret}, home)
        assert discovered(client("sync")) > 10
        return client

    with world.served() as url:
        yield of


def test_it_discovers_what_a_role_has(monkeys: Monkeys) -> None:
    root, user = monkeys("admin"), monkeys("user")
    assert discovered(root("sync")) > discovered(user("sync"))
    assert "missing parameter id" in root("patch", "systemvm").text
    refused = user("patch", "systemvm", f"id={STORAGE}")
    assert (refused.status, "unknown command" in refused.text) == (1, True)


def test_root_patches_and_is_told_why_a_patch_failed(world: World, monkeys: Monkeys) -> None:
    root = monkeys("admin")
    world.cloud.guests["s-2-VM"].fails = "cloud is not active"
    failed = root("patch", "systemvm", f"id={STORAGE}")
    assert (failed.status, "cloud is not active" in failed.text) == (1, True)
    world.cloud.guests["s-2-VM"].fails = ""
    done = root("patch", "systemvm", f"id={STORAGE}")
    assert (done.status, done.answer["success"]) == (0, True)
    assert world.cloud.guests["s-2-VM"].signature == NEW
    (row,) = root("list", "systemvms", "filter=name,livepatchavailable").answer["systemvm"]
    assert row == {"name": "s-2-VM", "livepatchavailable": False}


def test_a_user_patches_his_network(world: World, monkeys: Monkeys) -> None:
    user = monkeys("user")
    (network,) = user("list", "networks").answer["network"]
    done = user("restart", "network", f"id={network['id']}", "livepatch=true")
    assert (done.status, done.answer["success"]) == (0, True)
    assert world.cloud.patches() == ["r-3-VM"]


def test_a_wrong_secret_is_refused(monkeys: Monkeys) -> None:
    refused = monkeys("admin")("list", "systemvms", secret="wrong")
    assert refused.status == 1
    assert "authenticate" in refused.text
