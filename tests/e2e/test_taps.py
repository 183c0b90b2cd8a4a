"""Segments as bridges in network namespaces: frames are seen there, the rules hold, and nothing of it is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bundle.errors import InfrastructureError, UsageError
from harness.host import wait
from harness.host.hypervisor import PREFIX, hypervisor
from harness.lab.golden_maker import require
from harness.traffic.proofs import prove
from harness.vm import backends, taps
from harness.vm.reaper import reap
from harness.vm.taps import BridgeCable, Taps

PING = "ping -c 1 -W 10 10.1.1.50"


@pytest.fixture(scope="module")
def bridged(lab):
    """The lab whose golden snapshot was made with cables on loopback, restoring with bridges."""
    probe = f"{PREFIX}{lab.engine.run.id}-probe"
    try:
        backends.find("taps")
        Taps().lay([BridgeCable(probe, "eth0")])
    except (UsageError, InfrastructureError) as error:
        pytest.skip(str(error))
    finally:
        Taps().remove(probe)
    # A copy of the lab: the spares of the original are on loopback.
    return replace(lab, engine=replace(lab.engine, network_backend=Taps()))


def asked(namespace, program, *arguments):
    """Return what ip or bridge says in a namespace."""
    command = [program, "-json", "-n", namespace, *arguments]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout or "[]")


def learned(namespace):
    """Return by MAC address behind which tap each bridge of a namespace has seen it."""
    rows = asked(namespace, "bridge", "fdb", "show")
    return {row["mac"]: row["ifname"] for row in rows if row.get("state") != "permanent"}


def arrivals(namespace, tap):
    """Return how many frames have come out of a machine through its tap."""
    (row,) = asked(namespace, "ip", "-s", "link", "show", tap)
    return row["stats64"]["rx"]["packets"]


def forget(namespace):
    """Let the bridge of eth0 forget all MAC addresses: the next frame teaches it one."""
    command = ["ip", "-n", namespace, "link", "set", "br-eth0", "type", "bridge", "fdb_flush"]
    subprocess.run(command, check=True)


def links_of_the_host():
    return json.loads(subprocess.run(["ip", "-json", "link"], capture_output=True, check=True).stdout)


def held_taps():
    return [
        path for path in Path("/proc/self/fd").iterdir() if path.exists() and path.samefile("/dev/net/tun")
    ]


def test_a_router_on_bridges_keeps_every_rule_and_its_frames_are_seen_there(bridged, nothing_left):
    with bridged.system_vm("on-bridges") as vm:
        before = arrivals(vm.namespace, "eth0-tenants")
        require(prove(vm, bridged.network))
        seen = learned(vm.namespace)
        guest, public = (next(n for n in vm.topology.nics if n.role == role) for role in ("guest", "public"))
        assert (seen[guest.mac], seen[public.mac]) == ("eth0-vm", "eth2-vm")
        for host in vm.topology.tenants[0].hosts:
            assert seen[host.mac] == f"{host.device}-tenants"
        # A rule is proved with at least a question and an answer.
        assert arrivals(vm.namespace, "eth0-tenants") >= before + len(bridged.network.forwards)
        assert held_taps() == []
        assert not [row["ifname"] for row in links_of_the_host() if "eth0-" in row["ifname"]]
        namespace = vm.namespace
    assert not (taps.NAMESPACES / namespace).exists()


def test_copies_side_by_side_have_bridges_of_their_own(bridged, nothing_left):
    with bridged.system_vm("left") as left, bridged.system_vm("right") as right:
        right.pause()
        for vm in (left, right):
            forget(vm.namespace)
        assert "1 received" in left.guest.run(PING).stdout
        assert "eth0-vm" in learned(left.namespace).values()
        assert "eth0-vm" not in learned(right.namespace).values()
        right.resume()
        assert "1 received" in right.guest.run(PING).stdout
        assert "eth0-vm" in learned(right.namespace).values()


@pytest.mark.usefixtures("bridged")
def test_a_kept_vm_keeps_its_bridges_until_it_is_stopped(sysvm, nothing_left):
    started = sysvm("vm", "start", "--name", "bridged", "--network-backend", "taps")
    assert started.returncode == 0, started.stderr
    try:
        namespace = re.search(r"ip netns exec (\S+) ", started.stdout)[1]
        pinged = sysvm("vm", "exec", "bridged", PING)
        assert pinged.returncode == 0, pinged.stdout
        assert "eth0-tenants" in learned(namespace).values()
    finally:
        stopped = sysvm("vm", "stop", "bridged")
    assert stopped.returncode == 0, stopped.stderr
    assert not (taps.NAMESPACES / namespace).exists()


@pytest.mark.usefixtures("bridged")
def test_the_next_command_removes_the_namespace_of_a_killed_one(tmp_path, nothing_left):
    before = set(taps.NAMESPACES.glob("sysvm-*-victim"))
    command = [
        sys.executable,
        "-c",
        "from harness.cli import main; main()",
        "vm",
        "start",
        "--name",
        "victim",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, backends.VARIABLE: "taps"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, **quiet)
    try:
        wait.until(
            lambda: set(taps.NAMESPACES.glob("sysvm-*-victim")) - before, "a namespace to be there", 60.0
        )
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with hypervisor() as host:
        reap(host)
    assert set(taps.NAMESPACES.glob("sysvm-*-victim")) == before
