"""A rollout over real VMs: a served cloud with one of each kind is planned, patched, verified and reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from tests.served_vms import serving, started

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.skipif("SYSVM_ROLLOUT_VMS" not in os.environ, reason="nox -s rollout runs it: ten minutes"),
]
KINDS = {"roll-c": "consoleproxy", "roll-s": "secstorage", "roll-r": "router", "roll-v": "vpcrouter"}
# A patch of its own kind is refused by the script while something is mounted in the tree that it renames.
HELD = "/opt/cloud/bin/held"


@pytest.fixture
def vms(sysvm):
    """Start a console proxy, a storage VM, a router and a router of a VPC."""
    with started(sysvm, KINDS) as kinds:
        yield kinds


def rollout(served, folder, *words):
    root = served.account("admin")
    access = {"ENDPOINT": served.api, "KEY": root["apikey"], "SECRET": root["secret"]}
    return subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", "rollout", *words],
        env={**os.environ, **{f"CLOUDSTACK_{name}": value for name, value in access.items()}},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_kind_of_vm_is_planned_patched_verified_and_reported(sysvm, vms, tmp_path):
    bundle = tmp_path / "bundle"
    assert sysvm("bundle", "build", "--output", str(bundle)).returncode == 0
    with serving(tmp_path / "state", "--faithful", "4.22", "--bundle", str(bundle), *vms) as served:
        made = rollout(served, tmp_path, "plan", "--json", "--bundle", str(bundle))
        assert made.returncode == 0, made.stderr
        plan = json.loads(made.stdout)
        print(rollout(served, tmp_path, "plan", "--bundle", str(bundle)).stdout)
        assert plan["summary"] == {"patch": 4, "current": 0, "blocked": 0, "left out": 0}, plan
        # The router's patch will fail, and a faithful server's restart succeeds all the same.
        sysvm("vm", "exec", "roll-r", f"mkdir {HELD} && mount -t tmpfs none {HELD}")
        words = ("--bundle", str(bundle), "--settle", "45s", "--yes", "--max-failures", "2")
        done = rollout(served, tmp_path, "run", *words)
        print(done.stdout, done.stderr)
        assert done.returncode == 1, done.stderr
        failed = [line for line in done.stdout.splitlines() if line.startswith("failed:")]
        assert len(failed) == 1
        assert "rollout.scripts: roll-r: scripts still" in failed[0]
        sysvm("vm", "exec", "roll-r", f"umount {HELD} && rmdir {HELD}")
        done = rollout(served, tmp_path, "resume", "--retry", "vm=roll-r")
        print(done.stdout, done.stderr)
        assert done.returncode == 0, done.stderr
        after = json.loads(rollout(served, tmp_path, "plan", "--json", "--bundle", str(bundle)).stdout)
        assert after["summary"] == {"patch": 0, "current": 4, "blocked": 0, "left out": 0}
    suites = ET.parse(tmp_path / "results/latest/junit.xml").getroot()
    assert (len(suites), suites.get("failures"), suites.get("errors")) == (4, "0", "0")
    print((tmp_path / "results/latest/report.md").read_text())
