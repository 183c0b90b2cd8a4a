"""Whole networks: every router of a VPC once, whatever its tiers, and flows that were there before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from bundle import catalogue, layout
from bundle.errors import CheckFailed
from harness.guest.protocols import CommandResult, Guest
from harness.kvmagent import patch
from harness.management import Restart
from harness.management.inventory import NetworkState, VpcRow
from harness.scenario import Inventory, Lab, ManagementServer, NetworkRow, PatchAnswer, Trial, Vm

# A tier that is not up has no rules to send; its VPC is patched all the same.
_STATES: tuple[NetworkState, ...] = ("Implemented", "Allocated", "Shutdown")


@dataclass
class _Counted:
    """A guest that counts how often the patch script is started, whatever script that is."""

    guest: Guest
    started: int = 0

    @property
    def name(self) -> str:
        """The guest's name in messages."""
        return self.guest.name

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Upload a file as ever."""
        self.guest.put(data, path, mode)

    def run(
        self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True
    ) -> CommandResult:
        """Run a command as ever, and count it if it is the patch script."""
        self.started += command.endswith(layout.SCRIPT)
        return self.guest.run(command, deadline=deadline, stdin=stdin, check=check)


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
    vm, inventory = live_patch.vm, Inventory()
    router = _Counted(vm.guest)
    inventory.add(
        VpcRow("vpc", declared=lab.network),
        Vm("vm", vm.topology.vm_name, vm.topology.vm_type, router, vpc="vpc"),
        *(NetworkRow(f"tier{n}", state=_STATES[n % len(_STATES)], vpc="vpc") for n in range(tiers)),
    )
    # The trial's server lets the VM be looked at between its patch and its rules.
    server = replace(live_patch.server(lab.new_bundle), inventory=inventory)
    done = _restart(live_patch, server, lambda: server.restart_vpc("vpc", live_patch=True))
    times = router.started
    live_patch.require(
        "vpc.patched-once", "" if times == 1 else f"the patch script was started {times} times"
    )
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
