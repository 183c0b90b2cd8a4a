"""A server that is killed in the middle of a job on a real VM: the VM is old or new, and the next start says so.

``SYSVM_API_VMS=1`` runs it, as ``nox -s api`` does.
"""

from __future__ import annotations

import json
import os

import pytest

from harness.host import wait
from tests.served_vms import serving, started

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.skipif(
        "SYSVM_API_VMS" not in os.environ, reason="nox -s api runs it: some minutes without KVM"
    ),
]
VM = "killed-s"
# What the job is at when its server dies, as it tells.
MOMENTS = ("patching", "restart", "verifying")


def status(sysvm, bundle):
    (row,) = json.loads(sysvm("status", VM, "--bundle", str(bundle), "--json").stdout)
    return row


def ended(sysvm, bundle):
    """Return the VM's status when no script is at work in it any more, else None."""
    if sysvm("vm", "exec", VM, "pgrep -f [p]atch-sysvms.sh").returncode == 0:
        return None
    row = status(sysvm, bundle)
    return None if row["last_patch"].startswith(("running", "interrupted")) else row


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_vm_is_old_or_new_when_its_server_was_killed(sysvm, tmp_path, moment):
    bundle, state = tmp_path / "bundle", tmp_path / "state"
    assert sysvm("bundle", "build", "--output", str(bundle)).returncode == 0
    with started(sysvm, {VM: "secstorage"}):
        old = status(sysvm, bundle)
        with serving(state, "--bundle", str(bundle), VM) as first:
            root = first.cs("admin")
            (row,) = root.listSystemVms()["systemvm"]
            job = root.patchSystemVm(id=row["id"])["jobid"]

            def there() -> bool:
                asked = root.queryAsyncJobResult(jobid=job)
                assert asked["jobstatus"] == 0, f"it ended before it was seen at {moment}: {asked}"
                return any(moment in phase["phase"] for phase in asked["jobphases"])

            wait.until(there, f"the phase {moment}", 300.0, tick=0.05)
            first.kill()
        with serving(state, "--bundle", str(bundle), VM) as second:
            root = second.cs("admin")
            told = root.queryAsyncJobResult(jobid=job)
            assert (told["jobstatus"], told["jobresultcode"]) == (2, 530)
            assert told["jobresult"].startswith("job cancelled because of management server restart")
            assert job in root.listAlerts()["alert"][0]["description"]
            assert root.listAsyncJobs(listall=True) == {}
            found = wait.until(lambda: ended(sysvm, bundle), "the VM to finish or undo", 300.0)
            assert found["installed"] in {old["installed"], old["available"]}
            (kept,) = root.listSystemVms()["systemvm"]
            assert kept["agentstate"] == "Up"
            done = root.patchSystemVm(id=row["id"], forced=True, fetch_result=True)
            assert "Successfully patched" in done["details"]
