"""The VM engine on real machines: restores that do not see each other, guests that crash, hosts that stay clean."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from harness.guest.connection import SSH_PORT, CommandDeadline, CommandFailed, ConnectionLost, GuestError
from harness.guest.guest import UnitFailed
from harness.guest.transfer import LineConditions
from harness.host import runtime
from harness.host.cache import cache_root
from harness.host.hypervisor import hypervisor
from harness.host.wait import DeadlineExceeded
from harness.kept.listing import all_kept
from harness.lab.golden_maker import require
from harness.traffic.proofs import prove
from harness.vm import golden
from harness.vm.reaper import reap


def test_engine_restores_side_by_side_and_apart(lab):
    def visit(name):
        with lab.system_vm(name) as vm:
            vm.guest.run(f"echo {name} >/root/mine; test $(ls /root/mine | wc -l) = 1")
            return vm.guest.run("cat /root/mine").stdout.strip(), vm.guest.port

    with ThreadPoolExecutor(3) as pool:
        seen = list(pool.map(visit, ["one", "two", "three"]))
    assert [name for name, _ in seen] == ["one", "two", "three"]
    assert len({port for _, port in seen}) == 3


def test_engine_restored_clock_is_right(system_vm):
    assert abs(float(system_vm.guest.run("date +%s.%N").stdout) - time.time()) < 2.0


def test_engine_has_sshd_execute_itself_again_for_each_login_unless_it_is_emulated(lab, system_vm):
    command = system_vm.guest.run("tr '\\0' '\\n' </proc/$(systemctl show -P MainPID ssh)/cmdline").stdout
    assert ("-r" in command.split()) == (lab.engine.accelerator.domain_type == "qemu")


def test_engine_loses_what_was_not_synced_in_a_crash(lab):
    with lab.system_vm("crash") as vm:
        vm.guest.run("echo kept >/root/synced && sync && echo lost >/root/unsynced")
        vm.machine.crash()
        assert not vm.machine.alive()
        with pytest.raises(ConnectionLost):
            vm.guest.run("true")


def test_engine_blocks_and_unblocks_a_network(lab, system_vm):
    public = [nic.role for nic in system_vm.topology.nics].index("public")
    system_vm.machine.link(public, up=False)
    unreachable = [proof.name for proof in prove(system_vm, lab.network, deadline=0.5) if proof.reason]
    system_vm.machine.link(public, up=True)
    assert any(name.startswith("load balancer") for name in unreachable)
    require(prove(system_vm, lab.network))


def test_engine_drains_more_than_a_window_of_both_streams(system_vm):
    size = 4 << 20
    done = system_vm.guest.run(f"head -c {size} /dev/zero | tee /dev/stderr", deadline=120)
    assert (len(done.stdout), len(done.stderr)) == (size, size)


def arrived(guest, path):
    """Return mode and digest of what is at a path in the guest."""
    mode, digest = guest.run(f"stat -c %a {path} && sha256sum <{path}").stdout.split()[:2]
    return mode, digest


@pytest.mark.parametrize("protocol", ["scp", "sftp"])
def test_engine_uploads_as_asked_and_over_a_bad_line_as_well(system_vm, protocol):
    guest, path, data = system_vm.guest, f"/root/by-{protocol}", os.urandom(400_000)
    whole = sha256(data).hexdigest()
    guest.put(data, path, 0o600, protocol=protocol)
    assert arrived(guest, path) == ("600", whole)
    guest.put(data[::-1], path, 0o755, protocol=protocol, line=LineConditions(ends_after=1000))
    # scp leaves the mode of a file that is there already.
    assert arrived(guest, path)[1] == sha256(data[::-1][:1000]).hexdigest()
    started = time.monotonic()
    guest.put(data[:50_000], path, protocol=protocol, line=LineConditions(rate=50_000))
    assert time.monotonic() - started > 0.9
    assert arrived(guest, path)[1] == sha256(data[:50_000]).hexdigest()
    with pytest.raises(GuestError, match="not done in time"):
        guest.put(data, path, protocol=protocol, line=LineConditions(rate=50_000), deadline=1)
    guest.run(f"rm {path}")
    with pytest.raises(ConnectionLost, match="cut after 300000 bytes"):
        guest.put(data, path, protocol=protocol, line=LineConditions(cut_after=300_000))
    assert int(guest.run(f"stat -c %s {path}").stdout) <= 300_000
    guest.put(data, path, protocol=protocol)
    assert arrived(guest, path)[1] == whole


def test_engine_resumes_an_upload_that_was_cut_and_only_its_own(system_vm):
    guest, path, data = system_vm.guest, "/root/resumed", os.urandom(1_000_000)
    with pytest.raises(ConnectionLost):
        guest.put(data, path, protocol="sftp", line=LineConditions(cut_after=960_000))
    guest.put(data, path, 0o600, protocol="sftp", resume=True)
    assert arrived(guest, path) == ("600", sha256(data).hexdigest())
    guest.run(f"truncate -s 960000 {path}")
    # At this pace all of it would take 20 s.
    guest.put(data, path, protocol="sftp", resume=True, line=LineConditions(rate=50_000), deadline=15)
    assert arrived(guest, path)[1] == sha256(data).hexdigest()
    other = os.urandom(1_000_001)
    guest.put(other, path, protocol="sftp", resume=True)
    assert arrived(guest, path)[1] == sha256(other).hexdigest()


def test_engine_keeps_the_deadline_of_a_command(system_vm):
    started = time.monotonic()
    with pytest.raises(CommandDeadline, match="did not end within 1 s"):
        system_vm.guest.run("echo here; sleep 60", deadline=1)
    assert time.monotonic() - started < 5


def test_engine_says_status_and_last_line_of_a_failed_command(system_vm):
    with pytest.raises(CommandFailed, match="ended with status 7: no luck"):
        system_vm.guest.run("echo no luck >&2; exit 7")


def test_engine_waits_for_ports_and_units_and_says_which_one_failed(system_vm):
    control = system_vm.topology.control.address
    system_vm.guest.wait_for_port(SSH_PORT, control, deadline=10)
    with pytest.raises(DeadlineExceeded, match=f"port 3921 on {control} to answer"):
        system_vm.guest.wait_for_port(3921, control, deadline=1)
    system_vm.guest.run("systemd-run -q --wait --unit luckless sh -c 'exit 7'; journalctl --sync")
    with pytest.raises(UnitFailed, match=r"unit luckless\.service has failed: .*status=7"):
        system_vm.guest.wait_for_unit("luckless.service", deadline=30)


def test_engine_rebuilds_a_snapshot_that_somebody_wrote_to(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path))
    made = []

    def make(folder):
        (folder / "system.ram").write_bytes(b"ram")
        made.append(folder)
        return {"number": len(made)}

    assert golden.get("e2e-corrupt", make).facts == {"number": 1}
    assert golden.get("e2e-corrupt", make).facts == {"number": 1}
    (cache_root() / "golden" / "e2e-corrupt" / "system.ram").write_bytes(b"rum!")
    assert golden.get("e2e-corrupt", make).facts == {"number": 2}


def test_engine_leaves_nothing_of_a_run_that_was_killed(lab):
    code = (
        "import sys, time, pathlib\n"
        "from harness.record.events import EventLog\n"
        "from harness.lab.lab import open_lab\n"
        "from harness.lab.wish import Wish\n"
        "from harness.record.results import create\n"
        "record = create(pathlib.Path(sys.argv[1]))\n"
        "with open_lab(Wish('router', sys.argv[2], sys.argv[3]), record, EventLog(record.events)) as lab:\n"
        "    with lab.system_vm('victim') as vm:\n"
        "        print(lab.engine.run.id, flush=True)\n"
        "        time.sleep(600)\n"
    )
    folder = lab.folder / "killed"
    victim = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), lab.old.name, lab.new.name],
        stdout=subprocess.PIPE,
        text=True,
    )
    run_id = victim.stdout.readline().strip()
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    with hypervisor() as host:
        reap(host)
        assert not [d.name() for d in host.domains() if f"-{run_id}-" in d.name()]
    assert not (runtime.runs_folder() / run_id).exists()
    assert not (cache_root() / "work" / run_id).exists()


def test_engine_boots_a_template_by_its_own_boot_loader(lab, sysvm, nothing_left):
    folder = lab.image.folder.with_name(f"{os.getpid():032x}")
    folder.mkdir()
    try:
        for name in ("disk.qcow2", "image.json", "cloud-scripts.tgz"):
            os.link(lab.image.folder / name, folder / name)
        started = sysvm("vm", "start", "--type", "elbvm", "--name", "own", "--template", folder.name)
        assert started.returncode == 0, started.stderr
        assert "BOOT_IMAGE=" in sysvm("vm", "exec", "own", "cat /proc/cmdline").stdout
        assert sysvm("vm", "exec", "own", "test -e /var/cache/cloud/boot_up_done").returncode == 0
    finally:
        golden_key = [kept.golden for kept in all_kept() if kept.name == "own"]
        sysvm("vm", "stop", "own")
        for path in [folder, *(cache_root() / "golden" / key for key in golden_key)]:
            shutil.rmtree(path)


def test_engine_puts_a_kept_vm_back_to_its_snapshot(sysvm, nothing_left):
    try:
        assert sysvm("vm", "start", "--name", "back").returncode == 0
        sysvm("vm", "exec", "back", "echo before >/root/mine")
        taken = sysvm("vm", "snapshot", "back", "e2e-snapshot")
        assert taken.returncode == 0, taken.stderr
        sysvm("vm", "exec", "back", "echo after >/root/mine && sync")
        restored = sysvm("vm", "restore", "e2e-snapshot")
        assert restored.returncode == 0, restored.stderr
        assert sysvm("vm", "exec", "back", "cat /root/mine").stdout == "before\n"
        assert abs(float(sysvm("vm", "exec", "back", "date +%s").stdout) - time.time()) < 5.0
    finally:
        sysvm("vm", "stop", "back")
        assert sysvm("vm", "forget", "e2e-snapshot").returncode == 0
