"""Later uses of a VM as checks; a copy that nobody patched says which of them could not work anyhow."""

from __future__ import annotations

from bundle.errors import InfrastructureError
from harness.checks import Outcome
from harness.host import wait
from harness.lab.aftermath.uses import Later, Use
from harness.lab.lab import Lab
from harness.lab.management_network import MANAGEMENT_LOG, management_of, site_of
from harness.vm.system import SystemVm

_SIGNATURE = "cat /var/cache/cloud/cloud-scripts-signature"
# Seconds to wait for room for the copy: who holds one VM must not wait for ever for another.
_PATIENCE = 60.0


def outcomes(lab: Lab, vm: SystemVm, signature: str | None, *, whole: bool = False) -> list[Outcome]:
    """Make the later uses of a VM.

    Args:
        lab: that it is of.
        vm: the VM.
        signature: of the bundle that it must run; None: it was not patched, and runs what it says.
        whole: the longer ones, too.

    Raises:
        InfrastructureError: the VM or a host behind it cannot be reached.
    """
    release = (lab.new if signature else lab.old).name
    uses = _make(lab, vm, release, signature, whole=whole)
    wrong = [use for use in uses if use.problem]
    control = _control(lab, whole=whole) if wrong else {}
    return [_outcome(use, control) for use in uses]


def _make(lab: Lab, vm: SystemVm, release: str, signature: str | None, *, whole: bool) -> list[Use]:
    told = signature or vm.guest.run(_SIGNATURE).stdout.strip()
    later = Later(vm, lab.network, release, told)
    return list(later.whole() if whole else later.short())


def _control(lab: Lab, *, whole: bool) -> dict[str, str]:
    """Return what goes wrong in a copy of the snapshot that nobody patched, by use; empty where there is no room."""
    try:
        twin = lab.restore("twin", patience=_PATIENCE)
    except (InfrastructureError, wait.DeadlineExceeded):
        return {}
    try:
        log = lab.results.log(f"twin/{MANAGEMENT_LOG}")
        with management_of(twin, lab.golden.folder, log, agent=lab.has_agent):
            if (site := site_of(twin)) is not None:
                site.connected()
            uses = _make(lab, twin, lab.old.name, None, whole=whole)
    except InfrastructureError:
        return {}
    finally:
        twin.stop()
    return {use.name: use.problem for use in uses if use.problem}


def _outcome(use: Use, control: dict[str, str]) -> Outcome:
    name = f"later.{use.name}"
    if use.skipped:
        return Outcome(name, "skipped", use.skipped)
    if use.problem and use.name in control:
        return Outcome(name, "skipped", f"not so in a copy that nobody patched, either: {control[use.name]}")
    return Outcome(name, "failed" if use.problem else "passed", use.problem)
