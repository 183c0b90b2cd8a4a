"""Whole networks: every router of a VPC once, whatever its tiers, and flows that were there before."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bundle import catalogue
from bundle.errors import CheckFailed
from harness.kvmagent import patch
from harness.management import Restart
from harness.management.inventory import NetworkState, VpcRow
from harness.scenario import Inventory, Lab, ManagementServer, NetworkRow, PatchAnswer, Trial, Vm

_LOG = "/var/log/livepatchsystemvm.log"
# A tier that is not up has no rules to send; its VPC is patched all the same.
_STATES: tuple[NetworkState, ...] = ("Implemented", "Allocated", "Shutdown")


def _restart(trial: Trial, server: ManagementServer, call: Callable[[], Restart]) -> Restart | None:
    """Judge the VM around a restart of its network or VPC, which sends the rules itself; None when the call fails."""
    done: Restart | None = None

    def act() -> PatchAnswer:
        nonlocal done
        try:
            done = call()
        except CheckFailed as error:
            return PatchAnswer(False, error.diagnostics(), ran=True)
        known = server.inventory.vm("vm").scripts_version
        return PatchAnswer(True, "the call succeeded", scripts_version=known, patched=True, ran=True)

    trial.watch(server.bundle, act, rules="sent")
    return done


@pytest.mark.scenario(
    "S19-vpc-patched-once",
    types=catalogue.load().types_that(serve="vpc"),
    why="only a VPC has tiers",
)
@pytest.mark.parametrize("tiers", [0, 1, 11])
def test_a_router_of_a_vpc_is_patched_once_whatever_its_tiers(
    lab: Lab, live_patch: Trial, tiers: int
) -> None:
    """A VPC with no tier, one, and eleven in different states: its router is patched exactly once."""
    vm = live_patch.vm
    inventory = Inventory()
    inventory.add(
        VpcRow("vpc", declared=lab.network),
        Vm("vm", vm.topology.vm_name, vm.topology.vm_type, vm.guest, vpc="vpc"),
        *(NetworkRow(f"tier{n}", state=_STATES[n % len(_STATES)], vpc="vpc") for n in range(tiers)),
    )
    server = ManagementServer(inventory, live_patch.files(lab.new_bundle), events=lab.events)
    done = _restart(live_patch, server, lambda: server.restart_vpc("vpc", live_patch=True))
    times = vm.guest.run(f"grep -c 'patched to ' {_LOG}", check=False).stdout.strip()
    live_patch.require("vpc.patched-once", "" if times == "1" else f"the router was patched {times} times")
    idle = len(done.notes) if done else -1
    expected = sum(row.state != "Implemented" for row in inventory.tiers("vpc"))
    live_patch.require(
        "vpc.idle-tiers", "" if idle == expected else f"{idle} of {expected} idle tiers are named"
    )


@pytest.mark.scenario(
    "S22-flows-survive",
    types=catalogue.load().types_that(have="rules"),
    why="only routers of whole networks have flows through them",
)
def test_established_flows_survive_patch_and_rules(lab: Lab, live_patch: Trial) -> None:
    """Streams, new connections and DHCP renewals all through the patch and the rules that are sent after it."""
    server = live_patch.server(lab.new_bundle)
    _restart(live_patch, server, lambda: server.restart_network("net", live_patch=True))
    seen = live_patch.cases[-1].budgets
    for kind in ("load balancer", "port forward", "stream through", "DHCP renewal", "DNS"):
        there = any(row.name.startswith(kind) and row.sent for row in seen)
        live_patch.require(
            f"flows.{kind.replace(' ', '-')}", "" if there else "nobody tried it during the patch"
        )
    scripts = patch.ask_versions(live_patch.vm.guest).scripts
    known = scripts == server.bundle.signature
    live_patch.require("call.believed", "" if known else "the VM does not run the bundle's scripts")
