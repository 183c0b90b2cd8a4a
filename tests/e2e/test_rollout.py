"""A rollout over real VMs: a served cloud with one of each kind is planned, patched, verified and reported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from harness.guest.guest import SshGuest
from harness.kvmagent.patch import load_bundle
from harness.lab.pair import open_pair
from harness.management import Inventory, NetworkRow, Vm
from harness.management.api import ApiService
from harness.management.api.app import app
from harness.management.api.serving import served as on_loopback
from harness.management.faithful import FaithfulServer
from harness.management.health import role
from harness.management.inventory import Location
from tests.served_vms import Served, serving, started

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.skipif("SYSVM_ROLLOUT_VMS" not in os.environ, reason="nox -s rollout runs it: ten minutes"),
]
KINDS = {"roll-c": "consoleproxy", "roll-s": "secstorage", "roll-r": "router", "roll-v": "vpcrouter"}
# The script refuses to run beside another one, which holds this lock.
HOLD = "systemd-run --quiet --unit another-patch flock /run/cloud-livepatch.lock sleep 3600"
# The script stands still as soon as it runs, wherever it is at that moment.
SCRIPT = '"^[^ ]*bash /var/cache/cloud/patch-sysvms.sh"'
STAND_STILL = (
    f"systemd-run --quiet --unit stand-still sh -c 'until pkill -STOP -f {SCRIPT}; do sleep 0.2; done'"
)
GO_ON = f"systemctl stop stand-still; pkill -CONT -f {SCRIPT}"


@pytest.fixture
def vms(sysvm):
    """Start a console proxy, a storage VM, a router and a router of a VPC."""
    with started(sysvm, KINDS) as kinds:
        yield kinds


def rollout(served, folder, *words):
    root = served.account("admin")
    access = {"ENDPOINT": served.api, "KEY": root["apikey"], "SECRET": root["secret"]}
    done = subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", "rollout", *words],
        env={**os.environ, **{f"CLOUDSTACK_{name}": value for name, value in access.items()}},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"$ sysvm rollout {' '.join(words)}\n{done.stdout}{done.stderr}")
    return done


def summary(served, folder, bundle):
    made = rollout(served, folder, "plan", "--json", "--bundle", str(bundle))
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)["summary"]


def failures(done):
    assert done.returncode == 1, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(("failed:", "error:"))]


def find_a_version_that_was_never_installed(sysvm, served, bundle, folder):
    """Roll out with a script that says it installed and did not: the server believes it, the router's own check not."""
    words = (
        "run",
        "--bundle",
        str(bundle),
        "--script",
        "ours",
        "--only",
        "vm=roll-r",
        "--settle",
        "20s",
        "--yes",
    )
    (failed,) = failures(rollout(served, folder, *words))
    assert "rollout.health: roll-r: router_version_check.py" in failed
    shutil.rmtree(folder / "results")


def find_a_job_that_does_not_end(sysvm, served, bundle, folder):
    """Roll out while the script stands still in one router: the job is given up, and followed once it goes on."""
    held = sysvm("vm", "exec", "roll-v", STAND_STILL)
    assert held.returncode == 0, held.stderr
    words = ("run", "--bundle", str(bundle), "--only", "vm=roll-v", "--job-timeout", "25s", "--yes")
    (failed,) = failures(rollout(served, folder, *words))
    assert "has not ended within" in failed
    # Jobs have as much time again after each start.
    assert sysvm("vm", "exec", "roll-v", GO_ON).returncode == 0
    for _ in range(20):
        done = rollout(served, folder, "resume")
        if "has not ended within" not in done.stdout:
            break
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder / "results")


def test_every_kind_of_vm_is_planned_patched_verified_and_reported(sysvm, vms, tmp_path):
    bundle, idle = tmp_path / "bundle", tmp_path / "idle"
    assert sysvm("bundle", "build", "--output", str(bundle)).returncode == 0
    shutil.copytree(bundle, idle)
    (idle / "patch-sysvms.sh").write_text(f"#!/bin/bash\necho version:{load_bundle(bundle).signature}\n")
    with serving(tmp_path / "state", "--faithful", "4.22", "--bundle", str(idle), *vms) as served:
        find_a_version_that_was_never_installed(sysvm, served, idle, tmp_path)
    with serving(tmp_path / "state", "--faithful", "4.22", "--bundle", str(bundle), *vms) as served:
        assert summary(served, tmp_path, bundle) == {"patch": 4, "current": 0, "blocked": 0, "left out": 0}
        find_a_job_that_does_not_end(sysvm, served, bundle, tmp_path)
        assert summary(served, tmp_path, bundle) == {"patch": 3, "current": 1, "blocked": 0, "left out": 0}
        # The router's patch will fail, and a faithful server's restart succeeds all the same.
        assert sysvm("vm", "exec", "roll-r", HOLD).returncode == 0
        words = ("--bundle", str(bundle), "--settle", "45s", "--yes", "--max-failures", "2")
        (failed,) = failures(rollout(served, tmp_path, "run", *words))
        assert "rollout.scripts: roll-r: scripts still" in failed
        assert sysvm("vm", "exec", "roll-r", "systemctl stop another-patch").returncode == 0
        done = rollout(served, tmp_path, "resume", "--retry", "vm=roll-r")
        assert done.returncode == 0, done.stderr
        assert summary(served, tmp_path, bundle) == {"patch": 0, "current": 4, "blocked": 0, "left out": 0}
    suites = ET.parse(tmp_path / "results/latest/junit.xml").getroot()
    assert (len(suites), suites.get("failures"), suites.get("errors")) == (3, "0", "0")
    print((tmp_path / "results/latest/report.md").read_text())


class Splitting(FaithfulServer):
    """A server that leaves a pair with two primaries: when both are patched, the primary falls silent and stays one."""

    patched = 0

    def patch(self, vm, **options):
        done = super().patch(vm, **options)
        self.patched += 1
        if self.patched == 2:
            primary = next(one for one in self.inventory.all_vms() if role(one.eyes) == "PRIMARY")
            primary.eyes.run("pkill -STOP -x keepalived")
        return done


@contextmanager
def serving_pair(pair, bundle):
    """Serve the routers of a pair as :func:`serving` serves kept VMs; yields it, and the service."""
    inventory = Inventory()
    inventory.add(NetworkRow("net", declared=pair.network, redundant=True, name="paired", owner="user"))
    views = (pair.network, pair.network.second_router())
    for vm, declared in zip(pair.routers, views, strict=True):
        eyes = SshGuest(f"{vm.name}-eyes", vm.guest.host, vm.guest.port, vm.guest.key)
        row = Vm(
            vm.name, vm.name, vm.topology.vm_type, vm.guest, networks=("net",), declared=declared, eyes=eyes
        )
        inventory.add(replace(row, redundant=True, location=Location(host="here")))
    service = ApiService(Splitting(inventory, load_bundle(bundle), release="4.22"), faithful="4.22")
    service.watch.look_at_all()
    service.watch.start()
    accounts = [{"name": one.name, "apikey": one.api_key, "secret": one.secret} for one in service.accounts]
    with on_loopback(app(service, ["127.0.0.1"]), service.limits) as url:
        try:
            yield Served(url, f"{url}/client/api", tuple(accounts), None), service
        finally:
            service.close()
            for row in inventory.all_vms():
                row.eyes.close()


def test_a_pair_with_two_primaries_is_found_and_is_not_patched_again_when_it_is_well(lab, tmp_path):
    with open_pair(lab, "roll") as pair:
        pair.settle()
        with serving_pair(pair, lab.new_bundle) as (served, service):
            words = ("--bundle", str(lab.new_bundle), "--script", "ours")
            done = rollout(served, tmp_path, "run", *words, "--settle", "45s", "--soak", "40s", "--yes")
            (failed,) = failures(done)
            assert "rollout.roles: not one PRIMARY and one BACKUP" in failed
            assert failed.count("PRIMARY") == 3
            # Both have the scripts: nothing is to be patched, and a person is told what is wrong all the same.
            made = json.loads(rollout(served, tmp_path, "plan", "--json", *words[:2]).stdout)
            assert made["summary"]["current"] == 1
            told = made["units"][0]["warnings"][0]
            assert told.startswith("not one PRIMARY and one BACKUP: ")
            assert told.count("PRIMARY") == 3
            for vm in pair.routers:
                vm.guest.run("pkill -CONT -x keepalived")
            pair.settle()
            service.watch.look_at_all()
            assert rollout(served, tmp_path, "resume", "--retry", "paired").returncode == 0
            assert summary(served, tmp_path, lab.new_bundle)["current"] == 1
            assert service.server.patched == 2
