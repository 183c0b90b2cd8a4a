"""The logs of a VM, kept among the results."""

from __future__ import annotations

import secrets
import shutil

from bundle.errors import InfrastructureError
from harness.record.results import Results
from harness.vm.system import SystemVm

# What the guest itself logged, by the name among the results.
_GUEST_LOGS = {
    "livepatch.log": "cat /var/log/livepatchsystemvm.log",
    "cloud.log": "cat /var/log/cloud.log",
    "journal.log": "journalctl --no-pager -b -o short-precise",
}


def keep_logs(vm: SystemVm, results: Results, folder: str) -> None:
    """Copy the console logs, and what the guest logged if it still answers, to a folder of the results."""
    keep_consoles(vm, results, folder)
    marker = secrets.token_hex(16)
    try:
        # One round trip: under emulation each costs a tenth of a second, and every scenario ends with them.
        told = vm.guest.run(f"\necho {marker}\n".join(_GUEST_LOGS.values()), deadline=30, check=False).stdout
        texts = told.split(f"{marker}\n")
    except InfrastructureError as error:
        texts = [f"not to be had: {error}\n"] * len(_GUEST_LOGS)
    for name, text in zip(_GUEST_LOGS, texts, strict=False):
        results.log(f"{folder}/{name}").write_text(text)


def keep_consoles(vm: SystemVm, results: Results, folder: str) -> None:
    """Copy the console logs of a VM and its tenants to a folder of the results."""
    # Not by the names of the domains: those of a spare are other ones than the VM's that it became.
    labels = [vm.name, *(f"{vm.name}-{tenant}" for tenant in vm.tenant_machines)]
    for label, machine in zip(labels, vm.machines(), strict=True):
        source = machine.folder / "console.log"
        if source.exists():
            shutil.copyfile(source, results.log(f"{folder}/{label}-console.log"))
