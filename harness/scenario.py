"""The names that authors of scenarios need; what is not here may change without notice.

The fixtures (``lab``, ``system_vm``, ``live_patch``, ``tenant``, ``traffic``, …) are those of :mod:`harness.plugin`::

    import pytest

    from harness.scenario import Lab, Trial


    @pytest.mark.scenario("my-patch", types=("router",), why="only routers have ...")
    def test_my_patch(lab: Lab, live_patch: Trial) -> None:
        '''A healthy bundle: one line that goes into the report.'''
        assert live_patch.patch(lab.new_bundle).success

An ``Expectation`` is what a VM must be after a patch: ``"patched"``, the new release, or ``"kept"``, as it was before.
"""

from __future__ import annotations

from harness.checks import Expectation
from harness.guest.connection import GuestError, SshCommandResult
from harness.guest.guest import SshGuest
from harness.guest.transfer import LineConditions
from harness.kvmagent.patch import BundleFiles, PatchAnswer
from harness.lab.lab import Lab
from harness.lab.pair import RouterPair, open_pair
from harness.lab.trial import Trial
from harness.management import Inventory, ManagementServer, NetworkRow, Vm
from harness.observe.observation import observe
from harness.traffic import Traffic
from harness.vm.cables import HostForward
from harness.vm.system import SystemVm
from harness.vm.tenant.tenant import Tenant

__all__ = [
    "BundleFiles",
    "Expectation",
    "GuestError",
    "HostForward",
    "Inventory",
    "Lab",
    "LineConditions",
    "ManagementServer",
    "NetworkRow",
    "PatchAnswer",
    "RouterPair",
    "SshCommandResult",
    "SshGuest",
    "SystemVm",
    "Tenant",
    "Traffic",
    "Trial",
    "Vm",
    "observe",
    "open_pair",
]
