"""The fixtures of scenarios; what drives VMs is imported with the first one, since pytest always loads the plugin."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.plugin.cells import Cell
from harness.plugin.choosing import FAILED, companions_of, hands_on, scenario_id, wants_the_same
from harness.plugin.mark import scenario_of
from harness.plugin.options import option, release_after, seed_of, subject_of, templates_of
from harness.plugin.session import run_of

if TYPE_CHECKING:
    from harness.lab.lab import Lab
    from harness.lab.trial import Trial
    from harness.network import Network
    from harness.traffic import Probe, Traffic
    from harness.vm.cables import HostForward
    from harness.vm.system import SystemVm
    from harness.vm.tenant.tenant import Tenant


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, system_vm_cell: Cell) -> Iterator[Lab]:
    """Everything that scenarios share, up to the golden snapshot."""
    from harness.lab.lab import open_lab
    from harness.lab.wish import Wish

    run = run_of(request.config)
    config = request.config
    wish = Wish(
        vm_type=system_vm_cell.vm_type, from_release=system_vm_cell.from_release,
        to_release=release_after(request.config), debian=option(config, "debian"),
        network=system_vm_cell.network or option(config, "network"),
        subject=subject_of(request.config), template=templates_of(request.config).get(system_vm_cell.from_release),
        network_backend=option(config, "network-backend"),
    )  # fmt: skip
    leaving = None
    if option(config, "keep"):
        from harness.kept.start import leaving as how

        leaving = how(wish)
    with open_lab(wish, run.results, run.events, leaving=leaving) as made:
        if made.is_there_already():
            pytest.skip(f"the VM runs these very scripts already ({made.new.name})")
        yield made


@pytest.fixture
def management_services() -> Sequence[HostForward]:
    """Services beside the server on an agent VM's management network; a module of scenarios may have its own."""
    return ()


@pytest.fixture
def system_vm(
    request: pytest.FixtureRequest, lab: Lab, management_services: Sequence[HostForward]
) -> Iterator[SystemVm]:
    """A fresh copy of the golden snapshot."""
    started = time.monotonic()
    declared = scenario_of(request.node)
    # Part of domain and socket names: short, and nothing but letters, digits and dashes.
    name = re.sub(r"[^A-Za-z0-9-]+", "-", declared.name if declared else request.node.originalname)[:24]
    scenario = scenario_id(request.node)
    lab.events.emit("template", scenario=scenario, label=lab.image.label())
    companions, handed_on = companions_of(request.node), hands_on(request.node)
    untouched = declared is not None and declared.untouched
    try:
        with lab.system_vm(
            name, logs=scenario, services=management_services, companions=companions, untouched=untouched
        ) as vm:
            lab.events.emit("restored", vm=vm.name, seconds=time.monotonic() - started)
            if wants_the_same(request.node) and not handed_on:
                lab.spares.expect()
            from harness.plugin import hold

            with hold.held(vm, option(request.config, "hold")):
                yield vm
            if request.node.stash.get(FAILED, False):
                if option(request.config, "keep"):
                    hold.keep_failed(lab, vm)
                if option(request.config, "shell-on-failure"):
                    hold.stop_at(vm, "after the failure of", "")
    finally:
        if not handed_on:
            lab.shared.close()


@pytest.fixture
def bundle(lab: Lab) -> Path:
    """The folder of the bundle to patch with."""
    return lab.new_bundle


@pytest.fixture
def network(lab: Lab) -> Network:
    """The network that is declared for the VM; a test of a VM without one is skipped."""
    if lab.network is None:
        pytest.skip(f"no network is declared for a {lab.wish.vm_type}")
    return lab.network


@pytest.fixture
def tenant(system_vm: SystemVm) -> Tenant:
    """The first host behind ``system_vm``; a test of a VM without one is skipped."""
    for host in system_vm.tenants.values():
        return host
    pytest.skip(f"nobody is behind a {system_vm.topology.vm_type}")


@pytest.fixture
def traffic(
    request: pytest.FixtureRequest, lab: Lab
) -> Callable[[Sequence[Probe]], AbstractContextManager[Traffic]]:
    """Probes beside a test, as a context manager; what they saw goes into the report."""
    from harness.traffic import Traffic

    @contextmanager
    def run(probes: Sequence[Probe]) -> Iterator[Traffic]:
        with Traffic(probes) as seen:
            yield seen
        seen.record(lab.events, scenario_id(request.node) or request.node.name, {})

    return run


@pytest.fixture
def fault(system_vm: SystemVm) -> Callable[..., AbstractContextManager[Any]]:
    """Begins a fault of ``system_vm`` by its name, for a with-statement: ``fault("disk.full", leave=0)``."""
    from harness.lab.faults import begin

    def start(name: str, **options: object) -> AbstractContextManager[Any]:
        return begin(name, system_vm, **options)

    return start


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers for scenarios: the same for the same seed of the run and id, in whatever order they run."""
    seed = seed_of(request.config)
    return random.Random(f"{seed} {scenario_id(request.node) or request.node.name}")  # noqa: S311 - no secret


@pytest.fixture
def live_patch(request: pytest.FixtureRequest, lab: Lab, system_vm: SystemVm) -> Trial:
    """The trial of ``system_vm``: ``live_patch.patch(bundle)`` patches, sends the rules again and makes all checks."""
    from harness.lab.trial import Trial

    trial = Trial(lab, system_vm, scenario_id(request.node) or request.node.name)
    if option(request.config, "stop-before-rollback"):
        from harness.plugin.hold import at_rollback

        command = option(request.config, "hold") or ""
        trial.look = lambda vm: at_rollback(vm, command)
    return trial
