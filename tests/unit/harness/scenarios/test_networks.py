"""What S19 counts: starts of the patch script, whatever script that is."""

from __future__ import annotations

from harness.kvmagent import patch
from harness.scenarios.test_networks import _Counted
from tests.unit.harness.scenarios.test_transfer import BUNDLE, Vm


def test_each_start_of_the_patch_script_counts_and_nothing_else_does() -> None:
    router = _Counted(Vm())
    assert patch.patch(router, BUNDLE).patched
    assert router.started == 1
    patch.ask_versions(router)
    assert not patch.patch(router, BUNDLE).ran
    assert router.started == 1
    assert patch.patch(router, BUNDLE, forced=True).patched
    assert router.started == 2
