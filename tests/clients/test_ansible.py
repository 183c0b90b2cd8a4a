"""Ansible's own CloudStack modules, unmodified, against the served API: ``nox -s ansible`` installs and runs them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.management.api import uid
from tests.unit.harness.apiworld import World
from tests.unit.harness.simulator import NEW

if "SYSVM_ANSIBLE" not in os.environ:
    pytest.skip("nox -s ansible makes the environment that this needs", allow_module_level=True)
# Folder of the programs of an environment that has ansible and cs.
PROGRAMS = Path(os.environ["SYSVM_ANSIBLE"])


@pytest.fixture
def world() -> World:
    world = World()
    world.system_vm("s-2-VM", "secstorage")
    world.router("r-3-VM", network="web", owner="admin")
    return world


def play(world: World, url: str, folder: Path, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run tasks and return what each says."""
    book = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
    (folder / "book.json").write_text(json.dumps(book))
    account = world.service.accounts.named("admin")
    environment = {
        **os.environ,
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "HOME": str(folder),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_PYTHON_INTERPRETER": str(PROGRAMS / "python"),
        "CLOUDSTACK_ENDPOINT": url,
        "CLOUDSTACK_KEY": account.api_key,
        "CLOUDSTACK_SECRET": account.secret,
        "LC_ALL": "C.UTF-8",
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [PROGRAMS / "ansible-playbook", "-i", "localhost,", "book.json"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    said = json.loads(done.stdout[done.stdout.index("{") :])
    return [task["hosts"]["localhost"] for task in said["plays"][0]["tasks"]]


def test_its_modules_find_a_router_and_restart_its_network(world: World, tmp_path: Path) -> None:
    tasks = [
        {"ngine_io.cloudstack.cs_router": {"name": "r-3-VM", "zone": "zone1", "state": "present"}},
        {
            "ngine_io.cloudstack.cs_network": {
                "name": "web",
                "zone": "zone1",
                "state": "restarted",
                "clean_up": False,
            }
        },
    ]
    with world.served() as url:
        router, network = play(world, url, tmp_path, tasks)
    assert "failed" not in router, router
    assert (router["template_version"], router["requires_upgrade"]) == ("4.21.0", False)
    assert "failed" not in network, network
    assert network["changed"] is True
    assert world.cloud.rules() == ["r-3-VM"]
    assert world.cloud.patches() == []  # it has no word for a live patch


def test_a_task_patches_by_cs_and_a_failed_patch_fails_the_task(world: World, tmp_path: Path) -> None:
    patch = {"ansible.builtin.command": f"cs patchSystemVm id={uid('vm', 's-2-VM')} forced=true"}
    with world.served() as url:
        (done,) = play(world, url, tmp_path, [patch])
        assert done["rc"] == 0, done
        assert world.cloud.guests["s-2-VM"].signature == NEW
        world.cloud.guests["s-2-VM"].fails = "cloud is not active"
        (failed,) = play(world, url, tmp_path, [patch])
    assert failed["failed"] is True
    assert "cloud is not active" in failed["stdout"]
