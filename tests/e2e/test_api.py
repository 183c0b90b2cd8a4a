"""The served API on real VMs: clients that nobody here wrote patch them live, and are told why a patch failed."""

from __future__ import annotations

import json

import pytest
from cloudstack_openapi.cli import main as cloudstack_openapi
from cs import CloudStackApiException
from libcloud.common.types import InvalidCredsError, ProviderError

from tests.served_vms import refusing, serving, started

pytestmark = pytest.mark.usefixtures("nothing_left")
STORAGE, ROUTER = "api-s", "api-r"
EXPIRED = {"signatureVersion": "3", "expires": "2020-01-01T00:00:00+0000"}


@pytest.fixture
def vms(sysvm):
    """Start a storage VM and a router."""
    with started(sysvm, {STORAGE: "secstorage", ROUTER: "router"}) as kinds:
        yield kinds


def test_clients_patch_a_storage_vm_and_a_user_his_network(sysvm, vms, tmp_path, monkeypatch):
    built = sysvm("bundle", "build", "--output", str(tmp_path / "bundle"))
    assert built.returncode == 0, built.stderr
    state = tmp_path / "state"
    with serving(state, "--bundle", str(tmp_path / "bundle"), *vms) as served:
        assert (state / "keys.json").stat().st_mode & 0o777 == 0o600
        (row,) = served.cs("admin").listSystemVms(name=STORAGE)["systemvm"]
        (network,) = served.cs("user").listNetworks()["network"]
        assert (row["systemvmtype"], row["livepatchavailable"]) == ("secondarystoragevm", True)
        cs_is_refused(served, row)
        libcloud_is_refused(served, row)
        with refusing(sysvm, STORAGE) as folder:
            cs_is_told_why_a_patch_failed(served, row, folder)
            libcloud_is_told_why_a_patch_failed(served, row, folder)
        cs_patches_and_waits(served, row)
        libcloud_patches_the_users_network_and_waits(served, network)
        (router,) = served.cs("admin").listRouters(listall=True)["router"]
        assert router["scriptsversion"] == row["scriptsavailable"]
        assert served.cs("admin").getRouterHealthCheckResults(routerid=router["id"])["routerhealthchecks"]
        cs_reads_every_page(served)
        cs_posts_a_restart_without_a_patch_in_mixed_case(served, network)
        the_generator_understands_the_server(served, tmp_path, monkeypatch)
        cs_reboots_a_router_that_another_process_started(sysvm, served, router)
    said = (state / "journal.jsonl").read_text()
    assert not [secret for secret in secrets_of(state) if secret in said]


def cs_reboots_a_router_that_another_process_started(sysvm, served, router):
    """Its host stops and starts it: reset, QEMU would die of the snapshot that the router was restored from."""
    asked = (
        "vm",
        "exec",
        ROUTER,
        "cat /proc/sys/kernel/random/boot_id /var/cache/cloud/cloud-scripts-signature",
    )
    before = sysvm(*asked).stdout.split()
    served.cs("admin").rebootRouter(id=router["id"], fetch_result=True)
    (row,) = served.cs("admin").listRouters(id=router["id"])["router"]
    assert (row["state"], row["scriptsversion"]) == ("Running", router["scriptsversion"])
    after = sysvm(*asked).stdout.split()
    assert before[0] != after[0]
    assert before[1:] == after[1:] == [router["scriptsversion"]]
    listed = json.loads(sysvm("vm", "list", "--json").stdout)
    kept = {row["name"]: row["running"] for row in listed if row["kind"] == "vm"}
    assert kept == {STORAGE: True, ROUTER: True}
    stopped = sysvm("vm", "stop", ROUTER)
    assert (stopped.returncode, stopped.stdout) == (0, f"{ROUTER}: stopped\n")


def refused(call, status, **parameters):
    with pytest.raises(CloudStackApiException) as caught:
        call(**parameters)
    assert caught.value.error["errorcode"] == status
    return caught.value.error["errortext"]


def cs_is_refused(served, row):
    refused(served.cs("user").patchSystemVm, 432, id=row["id"])
    refused(served.cs("admin", secret="wrong").patchSystemVm, 401, id=row["id"])
    refused(served.cs("admin").patchSystemVm, 401, id=row["id"], **EXPIRED)
    assert served.cs("admin").listAsyncJobs(listall=True) == {}


def libcloud_is_refused(served, row):
    wanted = {"command": "patchSystemVm", "params": {"id": row["id"]}}
    with pytest.raises(ProviderError, match="not available for the account") as caught:
        served.libcloud("user")._sync_request(**wanted)
    assert caught.value.http_code == 432
    with pytest.raises(InvalidCredsError):
        served.libcloud("admin", secret="wrong")._sync_request(**wanted)
    wanted["params"] |= EXPIRED
    with pytest.raises(InvalidCredsError):
        served.libcloud("admin")._sync_request(**wanted)
    assert served.cs("admin").listAsyncJobs(listall=True) == {}


def cs_is_told_why_a_patch_failed(served, row, folder):
    root = served.cs("admin")
    assert folder in refused(root.patchSystemVm, 530, id=row["id"], fetch_result=True)
    assert root.listAlerts()["count"] == 1


def libcloud_is_told_why_a_patch_failed(served, row, folder):
    with pytest.raises(Exception, match=folder):
        served.libcloud("admin")._async_request(command="patchSystemVm", params={"id": row["id"]})


def cs_patches_and_waits(served, row):
    root = served.cs("admin")
    assert "Successfully patched" in root.patchSystemVm(id=row["id"], fetch_result=True)["details"]
    (after,) = root.listSystemVms(id=row["id"])["systemvm"]
    assert (after["livepatchavailable"], after["agentstate"]) == (False, row["agentstate"])


def libcloud_patches_the_users_network_and_waits(served, network):
    """It writes ``True`` as Python does."""
    driver = served.libcloud("user")
    wanted = {"id": network["id"], "livepatch": True}
    done = driver._async_request(command="restartNetwork", params=wanted)
    assert done["success"] is True
    assert "Successfully patched" in done["details"]
    listed = driver._sync_request(command="listNetworks", params={"page": 1, "pagesize": 1})
    assert [row["livepatchavailable"] for row in listed["network"]] == [False]


def cs_reads_every_page(served):
    root = served.cs("admin")
    page = root.listEvents(listall=True, page=1, pagesize=2)
    rows = root.listEvents(listall=True, fetch_list=True, pagesize=2)
    assert len(page["event"]) == 2
    assert page["count"] == len({row["id"] for row in rows}) == len(rows) > 4


def cs_posts_a_restart_without_a_patch_in_mixed_case(served, network):
    done = served.cs("user", method="post").restartNetwork(
        id=network["id"], livePatch=True, CleanUp=False, fetch_result=True
    )
    assert "No change in the scripts checksum" in done["details"]


def the_generator_understands_the_server(served, folder, monkeypatch):
    account = served.account("admin")
    for name, value in {
        "ENDPOINT": served.api,
        "KEY": account["apikey"],
        "SECRET": account["secret"],
    }.items():
        monkeypatch.setenv(f"CLOUDSTACK_{name}", value)
    target = folder / "openapi.json"
    assert cloudstack_openapi(["--probe-response-keys", "-q", "-o", str(target)]) == 0
    apis = served.cs("admin").listApis()["api"]
    assert len(json.loads(target.read_text())["paths"]) == len(apis)


def secrets_of(state):
    accounts = json.loads((state / "keys.json").read_text())["accounts"]
    return [account[kind] for account in accounts for kind in ("secret", "password", "apikey")]
