"""The server's calls: their preconditions and refusals, and none of the proven faults."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from bundle.errors import CheckFailed, InfrastructureError, UsageError
from harness import network
from harness.kvmagent.patch import Versions
from harness.management import Inventory, NetworkRow, Refused, VpcRow, gate
from harness.network.transport import DeliveryStep
from tests.unit.harness.simulator import NEW, OLD, Cloud


def with_network(cloud: Cloud, **row: object) -> Cloud:
    cloud.inventory.add(NetworkRow("net", declared=network.load(), **row))
    return cloud


# patchSystemVm


@pytest.mark.parametrize("kind", ["consoleproxy", "secstorage"])
def test_a_console_proxy_or_storage_vm_is_patched(kind: str) -> None:
    cloud = Cloud()
    guest = cloud.vm("v-1-VM", kind)
    done = cloud.server.patch_system_vm("v-1-VM")
    assert done.changed
    assert guest.signature == NEW
    assert cloud.inventory.vm("v-1-VM").scripts_version == NEW


def test_a_router_is_no_vm_for_this_call() -> None:
    cloud = Cloud()
    cloud.router("r-1-VM")
    with pytest.raises(
        Refused, match="r-1-VM is a router; patchSystemVm API can be used to patch CPVM / SSVM only"
    ):
        cloud.server.patch_system_vm("r-1-VM")
    assert cloud.timeline == []


@pytest.mark.parametrize(("vm_id", "words"), [("", "it is missing"), ("x", "no such system VM")])
def test_a_missing_or_unknown_id_is_an_invalid_parameter(vm_id: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"invalid parameter id.*{words}"):
        Cloud().server.patch_system_vm(vm_id)


def test_a_stopped_vm_is_an_error() -> None:
    cloud = Cloud()
    cloud.vm("s-1-VM", "secstorage", state="Stopped")
    with pytest.raises(
        CheckFailed, match="Unable to patch SystemVM: s-1-VM is Stopped, not in Running state"
    ):
        cloud.server.patch_system_vm("s-1-VM")
    assert cloud.timeline == []


def test_a_second_call_changes_nothing_and_a_forced_one_does() -> None:
    cloud = Cloud()
    cloud.vm("s-1-VM", "secstorage")
    cloud.server.patch_system_vm("s-1-VM")
    assert not cloud.server.patch_system_vm("s-1-VM").changed
    assert cloud.server.patch_system_vm("s-1-VM", forced=True).changed
    assert cloud.patches() == ["s-1-VM", "s-1-VM"]


def test_an_update_of_the_agent_alone_is_seen() -> None:
    cloud = Cloud()
    guest = cloud.vm("s-1-VM", "secstorage")
    guest.signature, guest.stale_agent = NEW, True
    assert cloud.server.patch_system_vm("s-1-VM").changed


def test_a_failing_script_fails_the_call_with_its_words() -> None:
    cloud = Cloud()
    guest = cloud.vm("s-1-VM", "secstorage")
    guest.fails = "cloud is not active"
    with pytest.raises(CheckFailed, match="s-1-VM: the live patch failed: cloud is not active"):
        cloud.server.patch_system_vm("s-1-VM")
    assert guest.signature == OLD


def test_a_vm_that_lies_is_found_out() -> None:
    cloud = Cloud()
    cloud.vm("s-1-VM", "secstorage").lies = True
    with pytest.raises(CheckFailed, match="it reported success, but runs 111111111111…"):
        cloud.server.patch_system_vm("s-1-VM")
    assert cloud.inventory.vm("s-1-VM").scripts_version == OLD


def test_a_service_that_is_lost_is_found_out_also_when_nothing_was_patched() -> None:
    cloud = Cloud()
    cloud.vm("s-1-VM", "secstorage").loses = {"haproxy"}
    with pytest.raises(CheckFailed, match="it reported success, but haproxy went down"):
        cloud.server.patch_system_vm("s-1-VM")


def test_noise_fails_the_strict_agent_and_not_the_upstream_one() -> None:
    cloud = Cloud()
    cloud.vm("s-1-VM", "secstorage").says = "hello\n"
    with pytest.raises(CheckFailed, match="its answer cannot be trusted"):
        cloud.server.patch_system_vm("s-1-VM")
    upstream = Cloud(dialect="upstream")
    upstream.vm("s-1-VM", "secstorage").says = "hello\n"
    assert upstream.server.patch_system_vm("s-1-VM").changed


def test_jobs_on_one_vm_take_turns() -> None:
    cloud = Cloud()
    guest = cloud.vm("s-1-VM", "secstorage")
    guest.waits_for = threading.Event()
    results: list[bool] = []
    jobs = [
        threading.Thread(
            target=lambda: results.append(cloud.server.patch_system_vm("s-1-VM", forced=True).changed)
        )
        for _ in range(3)
    ]
    for job in jobs:
        job.start()
    guest.waits_for.set()
    for job in jobs:
        job.join()
    assert results == [True, True, True]  # the simulator asserts that no two ran at once


# restartNetwork


def test_a_network_is_patched_and_its_rules_are_sent() -> None:
    cloud = with_network(Cloud(), restart_required=True)
    cloud.router("r-1-VM", networks=("net",))
    done = cloud.server.restart_network("net", live_patch=True)
    assert done.live
    assert [vm.vm for vm in done.vms] == ["r-1-VM"]
    assert done.rules == len(network.bags_of(network.Orders(network.load(), "4.22").reapply()))
    assert cloud.timeline.index(("r-1-VM", "patch")) < cloud.timeline.index(("r-1-VM", "rules"))
    assert cloud.inventory.network("net").restart_required is False


def test_a_current_router_is_left_alone_and_still_gets_its_rules() -> None:
    cloud = with_network(Cloud())
    cloud.router("r-1-VM", networks=("net",)).signature = NEW
    done = cloud.server.restart_network("net", live_patch=True)
    assert [vm.changed for vm in done.vms] == [False]
    assert cloud.patches() == []
    assert cloud.rules() == ["r-1-VM"]


def test_a_plain_restart_patches_nothing() -> None:
    cloud = with_network(Cloud())
    cloud.router("r-1-VM", networks=("net",))
    done = cloud.server.restart_network("net")
    assert (done.live, cloud.patches(), cloud.rules()) == (False, [], ["r-1-VM"])


def test_a_router_that_fails_fails_the_call_and_keeps_restart_required() -> None:
    cloud = with_network(Cloud())
    cloud.router("r-1-VM", networks=("net",)).fails = "no space"
    with pytest.raises(CheckFailed, match="r-1-VM: the live patch failed: no space"):
        cloud.server.restart_network("net", live_patch=True)
    assert cloud.inventory.network("net").restart_required is True
    assert cloud.rules() == []


def test_a_stopped_router_is_not_passed_over_in_silence() -> None:
    cloud = with_network(Cloud())
    cloud.router("r-1-VM", networks=("net",), state="Stopped")
    with pytest.raises(CheckFailed, match="r-1-VM is Stopped"):
        cloud.server.restart_network("net", live_patch=True)
    assert cloud.inventory.network("net").restart_required is True


def test_rules_that_were_not_applied_keep_restart_required() -> None:
    cloud = with_network(Cloud())
    cloud.router("r-1-VM", networks=("net",)).drops_rules = True
    with pytest.raises(CheckFailed, match=r"load_balancer\.json\.7f was not applied although"):
        cloud.server.restart_network("net", live_patch=True)
    assert cloud.inventory.network("net").restart_required is True


def test_an_internal_load_balancer_of_the_network_is_patched_too() -> None:
    cloud = with_network(Cloud())
    cloud.router("r-1-VM", networks=("net",))
    cloud.vm("b-2-VM", "ilbvm", networks=("net",))
    cloud.server.restart_network("net", live_patch=True)
    assert cloud.patches() == ["r-1-VM", "b-2-VM"]
    assert cloud.rules() == ["r-1-VM"]


@pytest.mark.parametrize("state", ["Allocated", "Shutdown"])
def test_a_network_in_another_state_is_refused(state: str) -> None:
    cloud = with_network(Cloud(), state=state)
    with pytest.raises(Refused, match=f"net is {state}"):
        cloud.server.restart_network("net", live_patch=True)


def test_an_sdn_network_is_refused() -> None:
    with pytest.raises(Refused, match="Unable to restart a running SDN network"):
        with_network(Cloud(), sdn=True).server.restart_network("net")


def test_cleanup_rebuilds_and_drops_the_live_patch_with_a_note() -> None:
    built: list[str] = []
    cloud = with_network(Cloud(rebuild=lambda vm: built.append(vm.name)))
    cloud.router("r-1-VM", networks=("net",))
    done = cloud.server.restart_network("net", cleanup=True, live_patch=True)
    assert (done.live, done.rebuilt, built, cloud.patches()) == (False, True, ["r-1-VM"], [])
    assert "none is patched live" in done.notes[0]


def test_a_router_that_was_made_anew_is_told_all_that_a_starting_one_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plugged: list[tuple[str, str]] = []
    cloud = Cloud(rebuild=lambda vm: None, plug=lambda vm, device: plugged.append((vm.name, device)))
    declared = network.load("vpc")
    cloud.inventory.add(VpcRow("vpc", declared=declared))
    cloud.router("r-1-VM", vpc="vpc")
    sent: list[network.Databag] = []

    def deliver(
        _guest: object, steps: Iterable[DeliveryStep], plug: Callable[[network.Plug], None]
    ) -> network.Applied:
        for step in steps:
            sent.extend(network.bags_of([step]))
            if isinstance(step, network.Plug):
                plug(step)
        return network.Applied(len(sent), 0.0)

    monkeypatch.setattr("harness.management.server.network.deliver", deliver)
    cloud.server.restart_vpc("vpc", cleanup=True)
    assert plugged == [("r-1-VM", f"eth{number}") for number in range(1, 5)]
    orders = network.Orders(declared, cloud.server.release)
    expected = network.bags_of((*orders.start(), *orders.reapply()))
    assert [bag.stem for bag in sent] == [bag.stem for bag in expected]


def test_a_router_whose_nics_nobody_can_plug_in_is_not_made_anew_in_silence() -> None:
    cloud = Cloud(rebuild=lambda vm: None)
    cloud.inventory.add(VpcRow("vpc", declared=network.load("vpc")))
    cloud.router("r-1-VM", vpc="vpc")
    with pytest.raises(InfrastructureError, match="nothing here can plug in eth1"):
        cloud.server.restart_vpc("vpc", cleanup=True)


def test_cleanup_without_means_to_rebuild_is_refused_before_anything() -> None:
    cloud = with_network(Cloud())
    with pytest.raises(Refused, match="a rolling restart is not possible here"):
        cloud.server.restart_network("net", cleanup=True)
    assert cloud.inventory.network("net").restart_required is False


def test_making_a_network_redundant_is_a_rolling_restart() -> None:
    cloud = with_network(Cloud(rebuild=lambda vm: None), offers_redundancy=True)
    assert cloud.server.restart_network("net", make_redundant=True, live_patch=True).rebuilt
    with pytest.raises(Refused, match="does not support redundant routers"):
        with_network(Cloud()).server.restart_network("net", make_redundant=True)


def test_making_a_redundant_network_redundant_has_no_effect() -> None:
    cloud = with_network(Cloud(), redundant=True)
    cloud.pair("r-1-VM", "r-2-VM", networks=("net",))
    assert cloud.server.restart_network("net", make_redundant=True, live_patch=True).live


# Redundant pairs


def test_of_a_pair_the_backup_is_patched_first() -> None:
    cloud = with_network(Cloud(), redundant=True)
    vrrp = cloud.pair("r-1-VM", "r-2-VM", networks=("net",))
    cloud.server.restart_network("net", live_patch=True)
    assert cloud.patches() == ["r-2-VM", "r-1-VM"]
    assert vrrp.primary == "r-2-VM"


def test_a_backup_that_fails_leaves_the_primary_alone() -> None:
    cloud = with_network(Cloud(), redundant=True)
    cloud.pair("r-1-VM", "r-2-VM", networks=("net",))
    cloud.guests["r-2-VM"].fails = "no space"
    with pytest.raises(CheckFailed, match="r-2-VM"):
        cloud.server.restart_network("net", live_patch=True)
    assert cloud.patches() == ["r-2-VM"]
    assert cloud.guests["r-1-VM"].signature == OLD


def test_a_pair_with_two_primaries_is_not_touched() -> None:
    cloud = with_network(Cloud(), redundant=True)
    cloud.pair("r-1-VM", "r-2-VM", networks=("net",)).split = True
    with pytest.raises(CheckFailed, match="two primaries answer for the same addresses"):
        cloud.server.restart_network("net", live_patch=True)
    assert cloud.patches() == []


def test_two_primaries_after_the_backup_stop_the_call() -> None:
    cloud = with_network(Cloud(), redundant=True)
    vrrp = cloud.pair("r-1-VM", "r-2-VM", networks=("net",))
    vrrp.restart = lambda name: setattr(vrrp, "split", True)
    with pytest.raises(CheckFailed, match="two primaries"):
        cloud.server.restart_network("net", live_patch=True)
    assert cloud.patches() == ["r-2-VM"]


def test_a_pair_that_does_not_settle_stops_the_call() -> None:
    cloud = with_network(Cloud(), redundant=True)
    vrrp = cloud.pair("r-1-VM", "r-2-VM", networks=("net",))
    vrrp.restart = lambda name: setattr(vrrp, "lost", True)
    with pytest.raises(CheckFailed, match="did not settle within 0 s: r-1-VM is FAULT, r-2-VM is FAULT"):
        cloud.server.restart_network("net", live_patch=True)


def test_a_pair_without_a_primary_is_not_touched() -> None:
    cloud = with_network(Cloud(), redundant=True)
    cloud.pair("r-1-VM", "r-2-VM", networks=("net",)).lost = True
    with pytest.raises(CheckFailed, match="without exactly one primary"):
        cloud.server.restart_network("net", live_patch=True)
    assert cloud.patches() == []


def test_a_pair_with_a_stopped_half_is_not_touched() -> None:
    cloud = with_network(Cloud(), redundant=True)
    cloud.pair("r-1-VM", "r-2-VM", networks=("net",))
    cloud.inventory.add(replace(cloud.inventory.vm("r-1-VM"), state="Stopped"))
    with pytest.raises(CheckFailed, match="r-1-VM is Stopped"):
        cloud.server.restart_network("net", live_patch=True)
    assert cloud.patches() == []


def test_unknown_objects_are_invalid_parameters() -> None:
    server = Cloud().server
    with pytest.raises(UsageError, match="no such network"):
        server.restart_network("x")
    with pytest.raises(UsageError, match="no such VPC"):
        server.restart_vpc("x")


# The version gate


def test_the_gate_accepts_a_new_template_or_the_servers_own_scripts() -> None:
    old, new = "Cloudstack Release 4.15.1 x", "Cloudstack Release 4.22.0-SNAPSHOT x"
    assert gate.refusal(Versions(new, "other"), NEW, "4.20.0") == ""
    assert gate.refusal(Versions(old, NEW + "\n"), NEW, "4.20.0") == ""
    assert "Router requires upgrade" in gate.refusal(Versions(old, OLD), NEW, "4.20.0")
    assert "Router requires upgrade" in gate.refusal(Versions("", OLD), NEW, "4.20.0")


def test_a_frozen_router_gets_no_rules_and_a_live_patch_thaws_it() -> None:
    cloud = with_network(Cloud(minimum_template="4.22.0"))
    cloud.router("r-1-VM", networks=("net",))
    with pytest.raises(CheckFailed, match="r-1-VM: Router requires upgrade"):
        cloud.server.restart_network("net")
    assert cloud.rules() == []
    cloud.server.restart_network("net", live_patch=True)
    assert cloud.rules() == ["r-1-VM"]


def test_an_inventory_trims_what_it_learns() -> None:
    inventory = Inventory()
    cloud = Cloud()
    cloud.router("r-1-VM")
    inventory.add(cloud.inventory.vm("r-1-VM"))
    inventory.learn("r-1-VM", " 4.22\n", f"{NEW}\n")
    assert inventory.vm("r-1-VM").scripts_version == NEW


def test_hosts_with_another_bundle_are_refused_before_the_vm_is_touched(tmp_path: Path) -> None:
    cloud = Cloud()
    cloud.vm("v-1-VM", "consoleproxy")
    server = cloud.server
    stale = replace(server.bundle, folder=tmp_path, contents={**server.bundle.contents, "agent.zip": b"old"})
    with pytest.raises(Refused, match=rf"the host's {tmp_path}/agent\.zip is not the management server's"):
        replace(server, hosts=stale).patch_system_vm("v-1-VM")
    assert cloud.timeline == []
    assert replace(server, hosts=server.bundle).patch_system_vm("v-1-VM").changed


def test_the_second_router_of_a_pair_is_sent_the_network_as_it_sees_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = with_network(Cloud())
    declared = network.load()
    second = replace(declared, nics=tuple(replace(nic, mac=f"0{nic.mac[1:]}") for nic in declared.nics))
    guests = [
        cloud.router("r-1-VM", networks=("net",)),
        cloud.router("r-2-VM", networks=("net",), declared=second),
    ]
    sent: list[tuple[object, object]] = []
    monkeypatch.setattr(
        "harness.management.server.network.deliver",
        lambda guest, steps, _plug: sent.append((guest, steps)) or network.Applied(len(steps), 0.0),
    )
    monkeypatch.setattr("harness.management.server.time.time", lambda: 7.0)
    replace(cloud.server, release="4.20").restart_network("net")
    assert sent == [
        (guest, network.Orders(view, "4.20", 7000).reapply())
        for guest, view in zip(guests, (declared, second), strict=True)
    ]
