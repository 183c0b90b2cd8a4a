"""The served API on real VMs: clients that nobody here wrote patch them live, and are told why a patch failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from cs import CloudStack, CloudStackApiException

pytestmark = pytest.mark.usefixtures("nothing_left")
# A patch replaces this folder, and refuses to while something is mounted in it.
HELD = "/usr/local/cloud/systemvm/held"


@pytest.fixture
def vms(sysvm):
    """Start a storage VM and a router."""
    kinds = {"api-s": "secstorage", "api-r": "router"}
    try:
        for name, kind in kinds.items():
            started = sysvm("vm", "start", "--type", kind, "--name", name)
            assert started.returncode == 0, started.stderr
        yield kinds
    finally:
        for name in kinds:
            sysvm("vm", "stop", name)


@contextmanager
def serving(folder, *arguments):
    """Serve the API and yield what the command says of it."""
    command = [sys.executable, "-c", "from harness.cli import main; main()", "serve", "--json", "--port", "0"]
    with subprocess.Popen(
        [*command, "--state", str(folder), *arguments], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as server:
        try:
            said = ""
            while not said.endswith("\n}\n"):
                line = server.stdout.readline()
                assert line, "the server ended before it said where it is"
                said += line
            yield json.loads(said)
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0


def client(said, name):
    (account,) = (one for one in said["accounts"] if one["name"] == name)
    return CloudStack(said["api"], key=account["apikey"], secret=account["secret"], poll_interval=0.5)


def test_a_client_patches_a_storage_vm_and_a_user_his_network(sysvm, vms, tmp_path):
    built = sysvm("bundle", "build", "--output", str(tmp_path / "bundle"))
    assert built.returncode == 0, built.stderr
    state = tmp_path / "state"
    with serving(state, "--bundle", str(tmp_path / "bundle"), *vms) as said:
        assert (state / "keys.json").stat().st_mode & 0o777 == 0o600
        root, user = client(said, "admin"), client(said, "user")
        (row,) = root.listSystemVms(name="api-s")["systemvm"]
        assert (row["systemvmtype"], row["livepatchavailable"]) == ("secondarystoragevm", True)
        _refused(user.patchSystemVm, 432, id=row["id"])
        sysvm("vm", "exec", "api-s", f"mkdir {HELD} && mount -t tmpfs none {HELD}")
        with pytest.raises(CloudStackApiException) as failed:
            root.patchSystemVm(id=row["id"], fetch_result=True)
        assert failed.value.error["errorcode"] == 530
        assert HELD in failed.value.error["errortext"]
        assert root.listAlerts()["count"] == 1
        sysvm("vm", "exec", "api-s", f"umount {HELD} && rmdir {HELD}")
        assert "Successfully patched" in root.patchSystemVm(id=row["id"], fetch_result=True)["details"]
        (after,) = root.listSystemVms(id=row["id"])["systemvm"]
        assert (after["livepatchavailable"], after["agentstate"]) == (False, row["agentstate"])
        (network,) = user.listNetworks()["network"]
        assert user.restartNetwork(id=network["id"], livepatch=True, fetch_result=True)["success"] is True
        (router,) = root.listRouters(listall=True)["router"]
        assert router["scriptsversion"] == row["scriptsavailable"]
        assert root.getRouterHealthCheckResults(routerid=router["id"])["routerhealthchecks"]
    said = (state / "journal.jsonl").read_text()
    assert not [secret for secret in _secrets(state) if secret in said]


def _refused(call, status, **parameters):
    with pytest.raises(CloudStackApiException) as caught:
        call(**parameters)
    assert caught.value.error["errorcode"] == status


def _secrets(state):
    accounts = json.loads((state / "keys.json").read_text())["accounts"]
    return [account[kind] for account in accounts for kind in ("secret", "password", "apikey")]
