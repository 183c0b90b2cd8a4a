"""CloudMonkey, unmodified, patches real VMs: ``nox -s cloudmonkey -- FILE`` names it."""

from __future__ import annotations

import os

import pytest

from tests.clients import cloudmonkey
from tests.clients.cloudmonkey import CloudMonkey, discovered
from tests.served_vms import refusing, serving, started

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.skipif(cloudmonkey.PROGRAM not in os.environ, reason=cloudmonkey.REASON),
]
STORAGE, ROUTER = "cmk-s", "cmk-r"


def test_cloudmonkey_patches_a_storage_vm_and_a_user_his_network(sysvm, tmp_path):
    built = sysvm("bundle", "build", "--output", str(tmp_path / "bundle"))
    assert built.returncode == 0, built.stderr

    def client(name):
        home = tmp_path / name
        home.mkdir()
        found = CloudMonkey(served.api, served.account(name), home)
        assert discovered(found("sync")) > 10
        return found

    with (
        started(sysvm, {STORAGE: "secstorage", ROUTER: "router"}) as kinds,
        serving(tmp_path / "state", "--bundle", str(tmp_path / "bundle"), *kinds) as served,
    ):
        root, user = client("admin"), client("user")
        (vm,) = root("list", "systemvms").answer["systemvm"]
        patch = ("patch", "systemvm", f"id={vm['id']}")
        assert user(*patch).status == 1
        assert "authenticate" in root("list", "systemvms", secret="wrong").text
        with refusing(sysvm, STORAGE) as folder:
            failed = root(*patch)
        assert (failed.status, folder in failed.text) == (1, True), failed.text
        done = root(*patch)
        assert (done.status, done.answer["success"]) == (0, True)
        (network,) = user("list", "networks").answer["network"]
        live = user("restart", "network", f"id={network['id']}", "livepatch=true")
        assert (live.status, live.answer["success"]) == (0, True)
        (after,) = root("list", "systemvms").answer["systemvm"]
        (router,) = root("list", "routers", "listall=true").answer["router"]
        assert router["scriptsversion"] == vm["scriptsavailable"]
        assert [row["livepatchavailable"] for row in (after, router)] == [False, False]
