"""Room that is not where a path says, or not there at all, and others that write while the VM is patched, or after."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.guest.livepatch import bundles, plays_packages
from tests.guest.livepatch.folder_vm import AGENT, JOURNAL, FolderVm
from tests.guest.livepatch.states import differences
from tests.guest.livepatch.test_from_outside import _once_prepared
from tests.guest.livepatch.test_ways_out import _stop_in, hook
from tests.guest.livepatch.walk import Stage

_SCRIPT = "bash /var/cache/cloud/patch-sysvms.sh"
# A file system for logs that is full.
_FULL_LOG = (
    "mount -t tmpfs -o size=64k none /var/log; dd if=/dev/zero of=/var/log/syslog bs=4k >/dev/null 2>&1; "
    ": >>/var/log/livepatchsystemvm.log; "
)
_NARROW = "-A INPUT -s 10.9.0.0/16 -i eth2 -p tcp -m tcp --dport 8443 -m state --state NEW -j ACCEPT\n"


@contextmanager
def _on_a_small_disk(stage: Stage) -> Iterator[FolderVm]:
    """A console proxy on a file system of 40 MB."""
    folder = stage.folder / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], check=True)
    try:
        with stage.clone("consoleproxy") as origin:
            subprocess.run(["cp", "-a", "--", f"{origin.root}/.", folder], check=True)
        yield FolderVm(folder, "consoleproxy")
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def _shell(lab: FolderVm, command: str) -> str:
    run = lab.start("-c", f'{command}; echo "exit $?"')
    output, errors = run.communicate(timeout=100)
    return f"{output.decode()}{errors.decode()}"


def _where(lab: FolderVm, word: str) -> list[str]:
    """Return the files of the VM that have a word."""
    places = ("etc", "opt", "root", "usr/local/cloud", "var", ".cloud-livepatch")
    command = ["grep", "-rlsa", word, *(str(lab.root / place) for place in places)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def test_an_agent_folder_behind_a_link_to_another_disk_is_not_touched(stage):
    with _on_a_small_disk(stage) as lab:
        lab.land(bundles.new())
        told = _shell(
            lab,
            "mkdir -p /data && mount -t tmpfs -o size=200m none /data && cp -a /usr/local/cloud /data/ && "
            "rm -rf /usr/local/cloud && ln -s /data/cloud /usr/local/cloud; "
            "dd if=/dev/urandom of=/data/cloud/systemvm/old.jar bs=1M count=60 2>/dev/null; "
            "sums() { (cd /data/cloud/systemvm && find . -type f -exec sha256sum {} + | sort -k2); }; "
            f"sums >/run/lab/before; {_SCRIPT}; echo status $?; sums | diff /run/lab/before - && echo same",
        )
    assert "patch refused, /usr/local/cloud lies on another file system than its name tells" in told
    assert "status 2\nsame\n" in told


@pytest.mark.parametrize(
    ("stopped", "state"),
    [("watch the services", "rolled-back"), ("rename into /usr/share/cloud/", "committed")],
)
def test_a_full_log_stops_no_recovery(lab, stopped, state):
    before = lab.state()
    _stop_in(lab, bundles.new(), stopped)
    told = _shell(lab, f"{_FULL_LOG} bash /{JOURNAL}/patch-sysvms.sh --recover --boot")
    assert lab.status()["state"] == state, told
    if state == "rolled-back":
        assert differences(before, lab.state()) == []


def _package(name: str, tree: dict[str, tuple[str, str, int]], folder: Path) -> bytes:
    """Return a package that ships paths: kind, content or target, and mode of each."""
    top = folder / name
    (top / "DEBIAN").mkdir(parents=True)
    (top / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: lab <lab@example.org>\nDescription: lab\n"
    )
    for name_of, (kind, told, mode) in tree.items():
        path = top / name_of
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            path.symlink_to(told)
        elif kind == "folder":
            path.mkdir(exist_ok=True)
            path.chmod(mode)
        else:
            path.write_text(told)
            path.chmod(mode)
    made = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", top, made], check=True, capture_output=True)
    return made.read_bytes()


def _has_package(lab: FolderVm, package: bytes) -> None:
    """Let a VM of Debian 11 have another package under the name that the bundle's conflicts with."""
    plays_packages._debian_11(lab)
    (lab.root / "run/lab/other.deb").write_bytes(package)
    told = _shell(lab, "dpkg --log=/dev/null -r lab-old-python && dpkg --log=/dev/null -i /run/lab/other.deb")
    assert "exit 0" in told, told


def _with_package(package: bytes, *, broken: bool) -> bundles.Bundle:
    content = bundles.broken_content() if broken else bundles.new_content()
    files = {
        "packages/packages.ini": (plays_packages.INI, 0o644),
        "packages/lab-python_1_all.deb": (package, 0o644),
    }
    return bundles.make(replace(content, agent=content.agent | files))


@pytest.mark.parametrize("kind", ["link", "file"])
@pytest.mark.parametrize("broken", [False, True])
def test_a_package_and_its_conflict_may_ship_the_same_path(stage, tmp_path, kind, broken):
    path = "opt/python/bin/python"
    with stage.clone("secstorage") as lab:
        _has_package(lab, _package("lab-old-python", {path: (kind, "python2", 0o755)}, tmp_path))
        before = lab.state()
        run = lab.patch(
            _with_package(_package("lab-python", {path: (kind, "python3", 0o755)}, tmp_path), broken=broken)
        )
        if broken:
            assert "was rolled back" in run.output
            assert differences(before, lab.state()) == []
        else:
            assert run.status == 0, run


def test_folders_of_a_removed_package_come_back_as_they_were(stage, tmp_path):
    tree = {
        "opt/other/private": ("folder", "", 0o700),
        "opt/other/private/key": ("file", "secret", 0o644),
        "opt/other/empty": ("folder", "", 0o755),
    }
    with stage.clone("secstorage") as lab:
        _has_package(lab, _package("lab-old-python", tree, tmp_path))
        before = lab.state()
        package = _package("lab-python", {"opt/python/bin/python": ("file", "python3", 0o755)}, tmp_path)
        run = lab.patch(_with_package(package, broken=True))
        assert "was rolled back" in run.output
        assert differences(before, lab.state()) == []


def test_what_dpkg_does_beside_the_patch_is_not_forgotten(stage):
    with stage.clone("secstorage") as lab:
        plays_packages._debian_11(lab)
        (lab.root / "run/lab/tool.deb").write_bytes(
            plays_packages._deb("lab-tool", "opt/tool/tool", "tool\n")
        )
        once = "{ : >/run/lab/once; dpkg --log=/dev/null -i /run/lab/tool.deb; }"
        hook(lab, "sync", f"[[ $1 != -f || -e /run/lab/once ]] || {once}")
        run = lab.patch(bundles.make(plays_packages._content(broken=False)))
        assert run.status == 1, run
        assert "lab-tool" in plays_packages._installed(lab)


def test_a_dpkg_that_begins_while_the_patch_is_prepared_does_not_go_on_unseen(stage):
    """It has written nothing yet, so its lock is all that can be seen."""
    holder = (
        'import fcntl, time; f = open("/var/lib/dpkg/lock", "r+"); fcntl.lockf(f, fcntl.LOCK_EX); '
        'open("/run/lab/held", "w"); time.sleep(30)'
    )
    with stage.clone("secstorage") as lab:
        plays_packages._debian_11(lab)
        (lab.root / "var/lib/dpkg/lock").touch()
        before = lab.state()
        once = (
            f"{{ python3 -c '{holder}' >/dev/null 2>&1 5>&- 6>&- 7>&- 9>&- & "
            "until [[ -e /run/lab/held ]]; do sleep 0.02; done; }"
        )
        hook(lab, "sync", f"[[ $1 != -f || -e /run/lab/held ]] || {once}")
        run = lab.patch(bundles.make(plays_packages._content(broken=False)))
        assert run.status == 1 and "dpkg was locked by another process" in run.output, run
        assert differences(before, lab.state()) == []


@pytest.mark.parametrize("arguments", [(), ("--strict",)])
def test_an_edited_file_of_the_agent_that_the_release_drops_stays(stage, arguments):
    content = bundles.new_content()
    agent = {path: file for path, file in content.agent.items() if path != "conf/log4j-cloud.xml"}
    with stage.clone("consoleproxy") as lab:
        file = lab.root / AGENT / "conf/log4j-cloud.xml"
        file.write_text("an operator's\n")
        lab.patch(bundles.make(replace(content, agent=agent)), *arguments)
        assert file.read_text() == "an operator's\n"


@pytest.mark.parametrize("change", ["echo operators >>bin/gone.sh", "echo operators >old/data/mine"])
def test_what_is_written_to_what_the_release_drops_is_not_lost(lab, change):
    _once_prepared(lab, "/opt/cloud", change)
    run = lab.patch(bundles.new())
    assert run.status == 1, run
    assert _where(lab, "operators")


def test_a_dropped_file_that_somebody_removes_meanwhile_is_no_dead_end(lab):
    _once_prepared(lab, "/opt/cloud/bin", "rm gone.sh")
    run = lab.patch(bundles.broken())
    assert "was rolled back" in run.output or "nothing changed" in run.output
    assert lab.status()["state"] != "stuck"


@pytest.mark.parametrize("others", [True, False], ids=["beside the general one", "alone"])
def test_a_narrow_rule_is_not_taken_for_the_one_of_the_console(stage, others):
    with stage.clone("consoleproxy") as lab:
        rules = lab.root / "run/lab/filter"
        rules.write_text(_NARROW + (rules.read_text() if others else ""))
        before = lab.filter_rules()
        assert lab.patch(bundles.new()).status == 0
        assert lab.filter_rules()[: len(before)] == before
        assert len(lab.filter_rules()) == len(before) + (not others)


def test_a_name_of_a_process_is_not_its_number(lab):
    """A process that calls itself "pid=<a worker of haproxy>" has a port that is not haproxy's."""
    program = lab.root / "usr/local/sbin/ss"
    worker = lab.processes("haproxy")[-1]
    line = f'tcp LISTEN 0 128 0.0.0.0:9999 0.0.0.0:* users:(("pid={worker}",pid=4242,fd=3))'
    program.write_text(f"{program.read_text()}printf '%s\\n' '{line}'\n")
    run = lab.patch(bundles.new(), LIVEPATCH_SERVICE_LIMIT="3")
    assert run.status == 0, run


def test_a_heap_dump_takes_no_room_twice(stage):
    with _on_a_small_disk(stage) as lab:
        dump = lab.root / AGENT / "java_pid77.hprof"
        dump.write_bytes(os.urandom(1 << 20) * 25)
        run = lab.patch(bundles.new())
        assert run.status == 0, run
        assert (dump.stat().st_size, dump.stat().st_nlink) == (25 << 20, 1)


def test_archives_that_cannot_be_removed_are_put_aside(lab):
    lab.land(bundles.new())
    told = _shell(
        lab,
        f"cp -a /var/cache/cloud /run/up; mkdir -p /{JOURNAL}/landed/in; mount -t tmpfs none /{JOURNAL}/landed/in; "
        f"for i in 1 2; do cp -a /run/up/*.* /var/cache/cloud/; {_SCRIPT}; echo status $?; done",
    )
    assert told.count("status 0") == 2, told


def test_what_is_written_after_a_run_died_is_kept(stage):
    with stage.clone("consoleproxy") as lab:
        _stop_in(lab, bundles.new(), "watch the services")
        # As an editor does it, then in place, a new file, and one where the release has removed one.
        (lab.root / "etc/new").write_text("operators 1\n")
        (lab.root / "etc/new").rename(lab.root / "etc/cron.hourly/watch")
        for number, path in enumerate(
            (f"{AGENT}/conf/cloud.jks", "etc/cloud.d/mine", "opt/cloud/bin/gone.sh"), 2
        ):
            (lab.root / path).write_text(f"operators {number}\n")
        lab.run("--recover")
        assert lab.status()["state"] == "rolled-back"
        assert [bool(_where(lab, f"operators {number}")) for number in (1, 2, 3, 4)] == [True] * 4


def test_what_is_written_while_the_services_are_watched_is_kept_when_they_fail(lab):
    edits = "; ".join(
        f"echo operators {number} >/{path}"
        for number, path in enumerate(("etc/cron.hourly/watch", "etc/cloud.d/mine", "opt/cloud/bin/gone.sh"))
    )
    hook(lab, "systemctl", f"[[ $1 != re* || -e /run/lab/once ]] || {{ : >/run/lab/once; {edits}; }}")
    before = lab.state()
    run = lab.patch(bundles.broken())
    assert (run.status, lab.status()["state"]) == (1, "rolled-back"), run
    assert differences(before, lab.state()) == []
    assert [bool(_where(lab, f"operators {number}")) for number in range(3)] == [True] * 3
    log = lab.read("var/log/livepatchsystemvm.log")
    assert [line for line in log.splitlines() if "later: " in line and " /etc/cron.hourly/watch" in line], log


def test_what_dpkg_writes_for_a_patch_is_not_somebody_elses(stage):
    with stage.clone("secstorage") as lab:
        plays_packages._debian_11(lab)
        hook(lab, "dpkg", '[[ $* != *--install* ]] || { /usr/bin/dpkg "$@"; exit 1; }')
        before = lab.state()
        run = lab.patch(bundles.make(plays_packages._content(broken=False)))
        assert run.status == 1 and "was rolled back" in run.output, run
        assert differences(before, lab.state()) == []
        assert not (lab.root / JOURNAL / "later").exists()


@pytest.mark.parametrize("folder", ["logrotate.d", "dnsmasq.d"])
def test_where_every_file_is_read_an_operators_version_has_an_ending_that_is_not(lab, folder):
    path = f"etc/{folder}/cloud"
    content = bundles.new_content()
    (lab.root / path).parent.mkdir(exist_ok=True)
    (lab.root / path).write_text("an operator's\n")
    run = lab.patch(
        bundles.make(replace(content, scripts=content.scripts | {path: (b"the release's\n", 0o644)}))
    )
    assert run.status == 0, run
    assert lab.read(f"{path}.dpkg-old") == "an operator's\n"
    assert not (lab.root / f"{path}.dist-old").exists()
