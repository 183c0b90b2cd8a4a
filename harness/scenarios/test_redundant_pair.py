"""A redundant pair: the backup first, checked, then the primary; and never two primaries."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from bundle.errors import CheckFailed, InfrastructureError
from harness.kvmagent import patch
from harness.lab.budgets import PACES
from harness.management.health import RedundancyRole, role
from harness.plugin.choosing import scenario_id
from harness.record.events import Event, Json
from harness.record.severity import gravest_first
from harness.scenario import (
    Inventory,
    Lab,
    ManagementServer,
    NetworkRow,
    RouterPair,
    SshGuest,
    SystemVm,
    Traffic,
    Trial,
    Vm,
    open_pair,
)
from harness.traffic import plan

# The longest time without an answer while the addresses move: three missed signs of life, and the new primary's start.
_BUDGETS_MS = {"kvm": 6_000.0, "qemu": 15_000.0}
# How often at least a primary must have been seen: a restart of the network takes far longer than so many looks.
_LOOKS = 5


class _Order:
    """Passes events on and remembers which VM was patched when."""

    def __init__(self, trial: Trial) -> None:
        self._events, self._scenario = trial.lab.events, trial.scenario
        self.patched: list[str] = []

    def emit(self, kind: str, **fields: Json) -> Event:
        """Take an event."""
        if kind == "patch":
            self.patched.append(str(fields["vm"]))
        return self._events.emit(kind, scenario=self._scenario, **fields)


@contextmanager
def _watched(pair: RouterPair) -> Iterator[list[tuple[RedundancyRole, ...]]]:
    """Ask both routers for their roles all the time, over connections of their own; yields what they said."""
    guests = [SshGuest(vm.name, "127.0.0.1", vm.guest.port, vm.guest.key) for vm in pair.routers]
    seen: list[tuple[RedundancyRole, ...]] = []
    stop = threading.Event()

    def ask() -> None:
        with ThreadPoolExecutor(max_workers=len(guests)) as pool:
            while not stop.wait(0.5):
                seen.append(tuple(pool.map(role, guests)))

    thread = threading.Thread(target=ask, name="roles of the pair")
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
        for guest in guests:
            guest.close()


@pytest.mark.scenario(
    "S20-pair-backup-first", types=("router",), why="the pair that is declared is one of routers"
)
def test_of_a_pair_the_backup_is_patched_first(lab: Lab, request: pytest.FixtureRequest) -> None:
    """Restart of a network with a pair: backup, check, primary; one primary at any time, users within the budget."""
    scenario = scenario_id(request.node) or request.node.name
    kind = lab.engine.accelerator.domain_type
    lab.events.emit("template", scenario=scenario, label=lab.image.label())
    with open_pair(lab, "S20") as pair:
        pair.settle()
        trial = Trial(lab, pair.outside, scenario)
        order = [pair.backup().name, pair.primary().name]
        server, events = _server(trial, pair)
        probes = plan.probes(pair.outside, pair.network, PACES[kind])
        limits = {probe.name: _BUDGETS_MS[kind] for probe in probes}
        with (
            lab.narrator.step("S20: restart the network"),
            _watched(pair) as roles,
            Traffic(probes) as traffic,
        ):
            problem = _call(server)
        trial.require("call.succeeds", problem)
        traffic.record(lab.events, scenario, limits)
        idle = [probe.name for probe in traffic.results if not probe.sent]
        asked = len(traffic.results) > len(idle)
        trial.require("pair.probed", "" if asked and not idle else f"these sent nothing: {idle or 'all'}")
        was = " then ".join(events.patched)
        trial.require("pair.backup-first", "" if events.patched == order else f"patched were {was}")
        led = sum("PRIMARY" in now for now in roles)
        trial.require("pair.watched", "" if led >= _LOOKS else f"a primary was seen {led} times only")
        # Roles are asked side by side: a failover between both answers may look like two primaries, once.
        both = [now == before == ("PRIMARY", "PRIMARY") for before, now in itertools.pairwise(roles)]
        trial.require("pair.one-primary", "both routers were primary at a time" if any(both) else "")
        late = [row for row in traffic.budgets(limits) if row.sure_ms > row.budget_ms]
        worst = ", ".join(f"{row.name}: no answer for {row.longest_gap_ms:.0f} ms" for row in late)
        trial.require("pair.within-budget", worst)
        trial.require("pair.settles", _problem_of(pair, pair.settle))
        trial.require("pair.rules", _problem_of(pair, pair.prove))
        for vm in pair.routers:
            problem = _problem_of(pair, partial(_require_patched, vm, server.bundle.signature))
            trial.require(f"pair.patched-{vm.topology.vm_name}", problem)
    if trial.failures:
        pytest.fail("\n".join(gravest_first(trial.failures)), pytrace=False)


def _server(trial: Trial, pair: RouterPair) -> tuple[ManagementServer, _Order]:
    """Return a management server that knows the pair, in the order in which its table has them: primary first."""
    views = dict(
        zip((vm.name for vm in pair.routers), (pair.network, pair.network.second_router()), strict=True)
    )
    inventory = Inventory()
    inventory.add(NetworkRow("net", declared=pair.network, redundant=True))
    for vm in (pair.primary(), pair.backup()):
        inventory.add(
            Vm(vm.name, vm.name, vm.topology.vm_type, vm.guest, networks=("net",), declared=views[vm.name])
        )
    order = _Order(trial)
    return ManagementServer(inventory, trial.files(trial.lab.new_bundle), events=order), order


def _call(server: ManagementServer) -> str:
    """Restart the network; return why that failed, or nothing."""
    try:
        server.restart_network("net", live_patch=True)
    except CheckFailed as error:
        return error.diagnostics()
    return ""


def _require_patched(vm: SystemVm, signature: str) -> None:
    """Require that a router runs the scripts of the bundle.

    Raises:
        CheckFailed: it runs others.
        InfrastructureError: it does not say.
    """
    if patch.ask_versions(vm.guest).scripts != signature:
        raise CheckFailed("it runs other scripts")


def _problem_of(pair: RouterPair, act: Callable[[], None]) -> str:
    """Return why an act fails, or nothing.

    Raises:
        InfrastructureError: it fails because a machine of the pair has ended.
    """
    try:
        act()
    except (CheckFailed, InfrastructureError) as error:
        for vm in pair.routers:
            vm.require_run()
        return str(error)
    return ""
