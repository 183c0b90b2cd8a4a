"""Clients that nobody here wrote, unmodified: apache-libcloud, and the generator that reads listApis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cloudstack_openapi.cli import main as cloudstack_openapi
from cs import main as cs_command
from libcloud.compute.providers import get_driver
from libcloud.compute.types import Provider

from harness.management.api import uid
from tests.unit.harness.apiworld import World
from tests.unit.harness.simulator import NEW


def libcloud(world: World, url: str, name: str) -> Any:
    where, account = urlsplit(url), world.service.accounts.named(name)
    driver = get_driver(Provider.CLOUDSTACK)
    return driver(
        account.api_key, account.secret, secure=False, host=where.hostname, port=where.port, path=where.path
    )  # fmt: skip


def test_libcloud_lists_patches_and_waits(world: World, url: str) -> None:
    driver = libcloud(world, url, "admin")
    listed = driver._sync_request(command="listSystemVms", params={"listall": True}, method="GET")
    found = {row["name"]: row["id"] for row in listed["systemvm"]}
    done = driver._async_request(command="patchSystemVm", params={"id": found["s-2-VM"]}, method="GET")
    assert done["success"] is True
    assert world.cloud.guests["s-2-VM"].signature == NEW
    routers = driver._sync_request(command="listRouters", params={"listall": True}, method="GET")
    assert {router["name"] for router in routers["router"]} >= {"r-3-VM", "r-6-VM"}


def test_libcloud_restarts_a_network_with_true_as_python_writes_it(world: World, url: str) -> None:
    driver = libcloud(world, url, "user")
    wanted = {"id": uid("network", "web"), "livepatch": True}
    assert driver._async_request(command="restartNetwork", params=wanted, method="GET")["success"] is True
    assert world.cloud.patches() == ["r-3-VM"]


def test_libcloud_is_told_why_a_patch_failed(world: World, url: str) -> None:
    world.cloud.guests["s-2-VM"].fails = "cloud is not active"
    driver = libcloud(world, url, "admin")
    with pytest.raises(Exception, match="the live patch failed: cloud is not active"):
        driver._async_request(command="patchSystemVm", params={"id": uid("vm", "s-2-VM")}, method="GET")


@pytest.fixture
def environment(world: World, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    account = world.service.accounts.named("admin")
    monkeypatch.setenv("CLOUDSTACK_ENDPOINT", url)
    monkeypatch.setenv("CLOUDSTACK_KEY", account.api_key)
    monkeypatch.setenv("CLOUDSTACK_SECRET", account.secret)
    monkeypatch.setenv("CLOUDSTACK_POLL_INTERVAL", "0.02")


@pytest.mark.usefixtures("environment")
def test_the_generator_understands_every_command(world: World, tmp_path: Path) -> None:
    target = tmp_path / "openapi.json"
    assert cloudstack_openapi(["--probe-response-keys", "-q", "-o", str(target)]) == 0
    document = json.loads(target.read_text())
    described = {path.rpartition("/")[2].partition("=")[2] or path for path in document["paths"]}
    assert len(described) == len(world.service.table)
    assert document["info"]["version"] == "4.22.0.0"


@pytest.mark.usefixtures("environment")
def test_the_command_cs_patches_and_says_why_it_failed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = f"id={uid('vm', 's-2-VM')}"
    assert cs_command(["patchSystemVm", wanted]) is False  # it says whether the process is to fail
    assert "Successfully patched systemVM s-2-VM" in capsys.readouterr().out
    world.cloud.guests["s-2-VM"].fails = "cloud is not active"
    assert cs_command(["patchSystemVm", wanted, "forced=true"]) is True
    assert "cloud is not active" in "".join(capsys.readouterr())
