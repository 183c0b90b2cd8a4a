"""Ansible's ``ngine_io.cloudstack`` and py-acs-sdk, unmodified, patch real VMs: ``nox -s ansible`` brings them."""

from __future__ import annotations

import os

import pytest

from harness.host import wait
from tests.clients import outside
from tests.served_vms import refusing, serving, started

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.skipif(outside.ENVIRONMENT not in os.environ, reason=outside.REASON),
]
STORAGE, ROUTER = "out-s", "out-r"


@pytest.fixture
def served(sysvm, tmp_path):
    """Serve a storage VM and a router."""
    built = sysvm("bundle", "build", "--output", str(tmp_path / "bundle"))
    assert built.returncode == 0, built.stderr
    with (
        started(sysvm, {STORAGE: "secstorage", ROUTER: "router"}) as kinds,
        serving(tmp_path / "state", "--bundle", str(tmp_path / "bundle"), *kinds) as server,
    ):
        yield server


def test_ansible_patches_a_storage_vm_and_restarts_a_network(sysvm, served, tmp_path):
    def play(name, *tasks, secret=""):
        account = served.account(name)
        return outside.play(served.api, account["apikey"], secret or account["secret"], tmp_path, tasks)

    root = served.cs("admin")
    (vm,) = root.listSystemVms()["systemvm"]
    (router,) = root.listRouters(listall=True)["router"]
    (zone,) = root.listZones()["zone"]
    place = {"zone": zone["name"]}
    patch = {"ansible.builtin.command": f"cs patchSystemVm id={vm['id']}"}
    live = f"cs restartNetwork id={router['guestnetworkid']} livepatch=true"
    (refused,) = play("user", patch)
    assert refused["failed"] is True
    assert '"errorcode": 432' in refused["stdout"] + refused["stderr"]
    (refused,) = play("admin", patch, secret="wrong")
    assert refused["failed"] is True
    assert '"errorcode": 401' in refused["stdout"] + refused["stderr"]
    with refusing(sysvm, STORAGE) as folder:
        (failed,) = play("admin", patch)
    assert failed["failed"] is True
    assert '"jobresultcode": 530' in failed["stdout"]
    assert folder in failed["stdout"]
    found, patched = play(
        "admin",
        {"ngine_io.cloudstack.cs_router": {**place, "name": ROUTER, "state": "present"}},
        patch,
    )
    assert found["requires_upgrade"] is router["requiresupgrade"]
    assert "Successfully patched" in patched["stdout"]
    restart = {**place, "name": router["guestnetworkname"], "state": "restarted", "clean_up": False}
    restarted, patched = play(
        "user",
        {"ngine_io.cloudstack.cs_network": restart},
        {"ansible.builtin.command": live},
    )
    assert restarted["changed"] is True
    assert "Successfully patched" in patched["stdout"]
    for row in (*root.listSystemVms()["systemvm"], *root.listRouters(listall=True)["router"]):
        assert row["livepatchavailable"] is False, row["name"]


def test_the_python_sdk_patches_a_storage_vm_and_a_network(sysvm, served):
    def sdk(name, secret=""):
        account = served.account(name)
        return outside.Sdk(served.api, account["apikey"], secret or account["secret"])

    def ended(client, job):
        return wait.until(
            lambda: (said := client.call("queryAsyncJobResult", jobId=job))["jobstatus"] and said,
            "the end of the job", 600.0, tick=1.0,
        )  # fmt: skip

    with sdk("admin", "wrong") as client:
        assert "401" in client.call("listSystemVms")["text"]
    with sdk("user") as client:
        assert "432" in client.call("listSystemVms")["text"]
        (network,) = client.call("listNetworks")["network"]
        job = client.call("restartNetwork", id=network["id"], livepatch="true")["jobid"]
        assert ended(client, job)["jobresult"]["success"] is True
    with sdk("admin") as client:
        (vm,) = client.call("listSystemVms", page=1, pagesize=5)["systemvm"]
        with refusing(sysvm, STORAGE) as folder:
            failed = ended(client, client.call("patchSystemVm", id=vm["id"])["jobid"])
        assert (failed["jobstatus"], failed["jobresultcode"]) == (2, 530)
        assert folder in failed["jobresult"]["errortext"]
        done = ended(client, client.call("patchSystemVm", iD=vm["id"], forceD="true")["jobid"])
        assert "Successfully patched" in done["jobresult"]["details"]
        (vm,) = client.call("listSystemVms")["systemvm"]
        assert vm["livepatchavailable"] is False
