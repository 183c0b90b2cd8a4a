"""What a trial asks while a patch runs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.lab.trial import CONSOLE_PORT, Trial
from harness.vm.types import of_type


@pytest.mark.parametrize(("probing", "count"), [(True, 1), (False, 0)])
def test_a_console_is_asked_unless_probes_are_off(probing: bool, count: int) -> None:
    plan = of_type("consoleproxy")
    public = next(nic.address for nic in plan.nics if nic.role == "public")
    vm = SimpleNamespace(topology=plan, endpoints={(public, CONSOLE_PORT): 20080})
    trial = Trial(SimpleNamespace(network=None, has_agent=True), vm, "S01", probing=probing)
    assert [probe.name for probe in trial.probes()] == [f"console {public}:{CONSOLE_PORT}"] * count


def test_nobody_asks_for_the_console_of_a_vm_without_an_agent():
    vm = SimpleNamespace(topology=of_type("consoleproxy"), endpoints={})
    assert Trial(SimpleNamespace(network=None, has_agent=False), vm, "S01").probes() == []
