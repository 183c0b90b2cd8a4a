"""What a trial asks while a patch runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from harness.lab import trial as trials
from harness.lab.budgets import BUDGETS_MS, RULES_FLOORS_MS
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


class Heard:
    """Traffic that was answered at once before, and whose budgets are what it is asked for."""

    def __init__(self, _probes: object) -> None:
        pass

    def __enter__(self) -> Heard:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    call = record = lambda *_: None

    def settle(self, patience: float, stretch: Callable[[], float]) -> None:
        assert patience * 1000 > BUDGETS_MS["qemu"]
        assert stretch() == 2.5

    def calm(self) -> dict[str, float]:
        return {"load balancer": 0.0}

    def budgets(self, limits: dict[str, float], stretch: float) -> tuple[dict[str, float], float]:
        return limits, stretch


def test_rules_that_are_sent_again_have_budgets_that_a_busy_host_stretches(monkeypatch):
    plan = of_type("router")
    vm = SimpleNamespace(topology=plan, endpoints={}, machine=SimpleNamespace(stretch=lambda: lambda: 2.5))
    lab = SimpleNamespace(
        network=None, has_agent=False, events=SimpleNamespace(about=lambda **_: nullcontext()),
        engine=SimpleNamespace(accelerator=SimpleNamespace(domain_type="qemu")),
    )  # fmt: skip
    monkeypatch.setattr(trials, "Traffic", Heard)
    monkeypatch.setattr(trials, "site_of", lambda _vm: None)
    trial = Trial(lab, vm, "S01")
    limits, stretch = trial._send_watched()
    assert stretch == 2.5
    assert limits == {"load balancer while rules were sent": RULES_FLOORS_MS["qemu"] * 2.5}
