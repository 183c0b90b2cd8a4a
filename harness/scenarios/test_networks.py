"""Whole networks: every router of a VPC once, whatever its tiers, and flows that were there before."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bundle.errors import CheckFailed
from harness import agent
from harness.agent import PatchAnswer
from harness.guest import GuestError
from harness.lab import Lab
from harness.management import Inventory, ManagementServer, NetworkRow, Restart, Vm
from harness.management.inventory import NetworkState, VpcRow
from harness.tenant import Tenant
from harness.trial import BUDGETS_MS, Trial

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


@pytest.mark.scenario("S19-vpc-patched-once", types=("vpcrouter",), why="only a VPC has tiers")
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


@contextmanager
def _renewing(tenant: Tenant) -> Iterator[list[tuple[float, str]]]:
    """Renew a tenant's lease again and again; yields the time and the address of each renewal, or what went wrong."""
    seen: list[tuple[float, str]] = []
    stop = threading.Event()

    def renew() -> None:
        while not stop.is_set():
            try:
                address = tenant.dhcp()
            except GuestError as error:
                address = str(error)
            seen.append((time.monotonic(), address))
            stop.wait(0.2)

    thread = threading.Thread(target=renew, name=f"renew the lease of {tenant.name}")
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@pytest.mark.scenario(
    "S22-flows-survive",
    types=("router", "vpcrouter"),
    why="only routers of whole networks have flows through them",
)
def test_established_flows_survive_patch_and_rules(lab: Lab, live_patch: Trial) -> None:
    """Streams, new connections and DHCP renewals all through the patch and the rules that are sent after it."""
    vm = live_patch.vm
    host = next(iter(lab.network.machines)) if lab.network else None
    if host is None:
        pytest.skip("the network has no tenant")
    tenant = vm.tenants[host.name]
    server = live_patch.server(lab.new_bundle)
    with _renewing(tenant) as renewals:
        _restart(live_patch, server, lambda: server.restart_network("net", live_patch=True))
    wrong = [said for _, said in renewals if said != str(host.address)]
    live_patch.require("dhcp.same-address", f"{len(wrong)} of {len(renewals)}: {wrong[0]}" if wrong else "")
    moments = [moment for moment, _ in renewals]
    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    # A renewal takes the tenant some seconds under emulation; what matters is that none waits for the patch to end.
    budget = 5 * BUDGETS_MS[lab.engine.accelerator.domain_type] / 1000
    longest = max(pauses, default=budget + 1)
    live_patch.require("dhcp.gap", "" if longest <= budget else f"{longest:.1f} s between two renewals")
    streams = [row for row in live_patch.cases[-1].budgets if row.name.startswith("stream")]
    live_patch.require("streams.probed", "" if streams else "no long-lived stream was there")
    versions = agent.ask_versions(vm.guest)
    known = versions.scripts == server.bundle.signature
    live_patch.require("call.believed", "" if known else "the VM does not run the bundle's scripts")
