"""The server with CloudStack's own faults: each fault is there, and the sound server does not have it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from bundle.errors import CheckFailed, UsageError
from harness.management import ManagementServer
from harness.management.api import uid
from harness.management.faithful import FAULTS, FaithfulServer, faults_of, server_of
from tests.unit.harness.apiworld import World
from tests.unit.harness.simulator import NEW, OLD

BOTH = pytest.mark.parametrize(
    ("server", "faulty"), [(FaithfulServer, True), (ManagementServer, False)], ids=["CloudStack's", "sound"]
)


def world_of(server: type[ManagementServer]) -> World:
    world = World(server)
    world.router("r-1-VM", network="web")
    world.service.watch.look_at_all()
    return world


@BOTH
def test_always_forced(server: type[ManagementServer], faulty: bool) -> None:
    world = world_of(server)
    world.cloud.guests["r-1-VM"].signature = NEW
    world.cloud.server.restart_network("web", live_patch=True)
    assert world.cloud.patches() == (["r-1-VM"] if faulty else [])


@BOTH
def test_failure_ignored(server: type[ManagementServer], faulty: bool) -> None:
    world = world_of(server)
    world.cloud.guests["r-1-VM"].fails = "haproxy is not active"
    if faulty:
        assert world.cloud.server.restart_network("web", live_patch=True).vms == ()
    else:
        with pytest.raises(CheckFailed, match="haproxy is not active"):
            world.cloud.server.restart_network("web", live_patch=True)
    assert world.cloud.inventory.vm("r-1-VM").scripts_version == OLD


@BOTH
def test_a_router_that_does_not_run(server: type[ManagementServer], faulty: bool) -> None:
    world = world_of(server)
    world.cloud.inventory.change("r-1-VM", state="Stopped")
    if faulty:
        assert world.cloud.server.restart_network("web", live_patch=True).live
    else:
        with pytest.raises(CheckFailed, match="not in Running state"):
            world.cloud.server.restart_network("web", live_patch=True)
    assert world.cloud.patches() == []


@BOTH
@pytest.mark.parametrize("tiers", [0, 1, 3])
def test_once_a_tier(server: type[ManagementServer], faulty: bool, tiers: int) -> None:
    world = world_of(server)
    world.vpc("shop", tiers=tiers)
    world.router("r-2-VM", vpc="shop")
    world.service.watch.look_at_all()
    world.cloud.server.restart_vpc("shop", live_patch=True)
    assert world.cloud.patches() == ["r-2-VM"] * (tiers if faulty else 1)


@BOTH
def test_balancers_forgotten(server: type[ManagementServer], faulty: bool) -> None:
    world = world_of(server)
    world.vpc("shop", tiers=1)
    world.router("r-2-VM", vpc="shop")
    world.cloud.vm("b-3-VM", "ilbvm", networks=("shop-1",))
    world.service.watch.look_at_all()
    world.cloud.server.restart_network("shop-1", live_patch=True)
    assert world.cloud.patches() == (["r-2-VM"] if faulty else ["r-2-VM", "b-3-VM"])


def test_balancers_were_not_forgotten_before_4_18_2() -> None:
    assert "balancers-forgotten" in faults_of("4.18.2")
    assert "balancers-forgotten" not in faults_of("4.18.1")


@BOTH
def test_no_turns(server: type[ManagementServer], faulty: bool) -> None:
    world = world_of(server)
    world.system_vm("s-2-VM", "secstorage")
    guest = world.cloud.guests["s-2-VM"]
    guest.waits_for = threading.Event()
    met: list[str] = []

    def patch() -> None:
        try:
            world.cloud.server.patch_system_vm("s-2-VM", forced=True)
        except AssertionError as error:
            met.append(str(error))

    jobs = [threading.Thread(target=patch) for _ in range(2)]
    for job in jobs:
        job.start()
    if faulty:
        while not met:
            jobs[0].join(0.01)
    guest.waits_for.set()
    for job in jobs:
        job.join()
    assert met == (["two patches at once on one VM"] if faulty else [])


@BOTH
def test_agent_ignored(server: type[ManagementServer], faulty: bool) -> None:
    world = world_of(server)
    guest = world.system_vm("s-2-VM", "secstorage")
    guest.signature, guest.stale_agent = NEW, True
    assert world.cloud.server.patch_system_vm("s-2-VM").changed is not faulty


@BOTH
def test_believed(server: type[ManagementServer], faulty: bool) -> None:
    world = world_of(server)
    guest = world.cloud.guests["r-1-VM"]
    guest.lies = True
    if faulty:
        world.cloud.server.restart_network("web", live_patch=True)
        assert world.cloud.inventory.vm("r-1-VM").scripts_version == NEW
        assert world.cloud.inventory.vm("r-1-VM").software_version == "4.22.0.0"
    else:
        with pytest.raises(CheckFailed, match="it reported success, but runs"):
            world.cloud.server.restart_network("web", live_patch=True)
    assert guest.signature == OLD


@BOTH
def test_a_service_that_went_down(server: type[ManagementServer], faulty: bool) -> None:
    world = world_of(server)
    world.cloud.guests["r-1-VM"].loses = {"haproxy"}
    if faulty:
        assert world.cloud.server.restart_network("web", live_patch=True).live
    else:
        with pytest.raises(CheckFailed, match="haproxy went down"):
            world.cloud.server.restart_network("web", live_patch=True)


@BOTH
def test_any_order(server: type[ManagementServer], faulty: bool) -> None:
    world = world_of(server)
    world.pair("r-2-VM", "r-3-VM", "paired")
    world.service.watch.look_at_all()
    world.cloud.server.restart_network("paired", live_patch=True)
    assert world.cloud.patches() == (["r-2-VM", "r-3-VM"] if faulty else ["r-3-VM", "r-2-VM"])


@BOTH
def test_rules_believed(server: type[ManagementServer], faulty: bool) -> None:
    world = world_of(server)
    world.cloud.guests["r-1-VM"].drops_rules = True
    if faulty:
        assert world.cloud.server.restart_network("web", live_patch=True).live
    else:
        with pytest.raises(CheckFailed, match="was not applied although the guest reported success"):
            world.cloud.server.restart_network("web", live_patch=True)
    assert world.cloud.rules() == ["r-1-VM"]


def test_a_router_behind_the_gate_fails_the_restart_by_what_the_server_believes() -> None:
    world = World(FaithfulServer, server_options={"minimum_template": "4.22.0"})
    world.router(
        "r-1-VM", network="web"
    ).says = "a: b\n"  # which the agent cannot read: it keeps the old version
    world.service.watch.look_at_all()
    with pytest.raises(CheckFailed, match="Failed to restart network"):
        world.cloud.server.restart_network("web", live_patch=True)
    assert world.cloud.guests["r-1-VM"].signature == NEW
    assert world.cloud.inventory.vm("r-1-VM").scripts_version == OLD


def test_silent_patch_and_nothing_that_cloudstack_does_not_tell() -> None:
    world = World(FaithfulServer, faithful="4.22")
    world.system_vm("s-2-VM", "secstorage").fails = "cloud is down"
    with world.served() as url:
        client = world.client(url, "admin")
        with pytest.raises(Exception, match="cloud is down"):
            client.patchSystemVm(id=uid("vm", "s-2-VM"), fetch_result=True)
        assert [(one["type"], one["state"]) for one in client.listEvents()["event"]] == [
            ("LIVE.PATCH.SYSTEM.VM", "Scheduled")
        ]
        assert client.listAlerts() == {}
        assert not [name for name in client.listSystemVms()["systemvm"][0] if name.startswith("livepatch")]


@BOTH
def test_a_version_that_was_never_installed(server: type[ManagementServer], faulty: bool) -> None:
    world = World(server, faithful="4.22" if faulty else None)
    world.router("r-1-VM", network="web").lies = True
    with world.served() as url:
        client = world.client(url, "admin")
        job = client.restartNetwork(id=uid("network", "web"), livepatch=True)["jobid"]
        while client.queryAsyncJobResult(jobid=job)["jobstatus"] == 0:
            pass
        world.service.watch.look_at_all()
        assert client.queryAsyncJobResult(jobid=job)["jobstatus"] == (1 if faulty else 2)
        assert client.listRouters(listall=True)["router"][0]["scriptsversion"] == (NEW if faulty else OLD)


def test_a_job_that_takes_too_long_is_called_failed_and_goes_on() -> None:
    world = World(FaithfulServer)
    world.service.jobs.limits = replace(world.limits, job_cancel=0.05)
    guest = world.system_vm("s-2-VM", "secstorage")
    guest.waits_for = threading.Event()
    with world.served() as url:
        client = world.client(url, "admin")
        with pytest.raises(Exception, match=r"Job failure.*blocking others for too long"):
            client.patchSystemVm(id=uid("vm", "s-2-VM"), fetch_result=True)
        guest.waits_for.set()
        while guest.signature != NEW:
            client.listSystemVms()


@pytest.mark.parametrize("release", ["4.16", "4.14.0"])
def test_a_server_that_cannot_patch_live_is_refused(release: str) -> None:
    with pytest.raises(UsageError, match="has no live patch"):
        server_of(release, faithful=True)
    assert server_of(release, faithful=False) is ManagementServer


def test_each_fault_is_in_the_manual() -> None:
    from pathlib import Path

    manual = (Path(__file__).parents[4] / "docs/api.md").read_text()
    assert [fault.name for fault in FAULTS if f"| `{fault.name}` |" not in manual] == []
