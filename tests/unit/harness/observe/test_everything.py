"""What is seen beyond files and services: kernel, units, processes, sockets; and the list of what may differ."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.checks import judge
from harness.guest.collect import Section, collect
from harness.observe import files, kernel, processes, reviewed, sockets, units
from tests.unit.harness.simulated_patch import world

if TYPE_CHECKING:
    from harness.guest.protocols import Guest


def sections(**texts: str) -> dict[str, Section]:
    return {name.replace("__", "."): Section(name, 0, text.encode()) for name, text in texts.items()}


@pytest.mark.parametrize("kind", reviewed.KINDS)
def test_every_reviewed_row_has_a_reason_and_an_owner(kind: reviewed.VolatileKind) -> None:
    for row in reviewed.rows(kind):
        assert row.patterns
        assert len(row.reason) > 20, row
        assert row.owner in reviewed.OWNERS, row


@pytest.mark.parametrize("kind", reviewed.KINDS)
def test_no_row_is_a_blank_cheque(kind: reviewed.VolatileKind) -> None:
    damage = {
        "path": ("/usr/bin/.sh", "/etc/cron.d/x", "/var/spool/cron/crontabs/root", "/boot/x", "/var/lib/dpkg/status"),
        "sysctl": ("net/ipv4/ip_forward", "kernel/hostname", "vm/swappiness", "net/netfilter/nf_conntrack_max"),
        "module": ("ip_tables", "dummy"),
        "mount": ("/", "/opt", "/mnt"),
        "unit": ("apache2.service", "logrotate.timer", "opt.mount", "haproxy.service"),
        "process": (
            "outside services /usr/bin/python3.11 python3 /tmp/x.py", "outside services /bin/bash bash",
            "cron.service /dev/shm/observe.x miner", "cloud.service /tmp/miner miner",
        ),
        "socket": ("tcp python3", "UNIX socket /run/evil.sock was not there before"),
        "rules": ("/etc/cron.d/x", "/etc/passwd", "/opt/cloud/bin/vr_cfg.sh", "/etc/systemd/system/x.service"),
    }  # fmt: skip
    assert [name for name in damage[kind] if reviewed.may_differ(kind, name)] == []


def test_a_reason_is_told_of_what_may_differ_only() -> None:
    assert "drawn anew" in str(reviewed.reason("sysctl", "kernel/random/uuid"))
    assert reviewed.reason("sysctl", "kernel/hostname") is None


def test_settings_of_several_lines_are_one_value() -> None:
    found = kernel.parse(sections(kernel__settings="/proc/sys/a/b:1\t2\n/proc/sys/a/b:3\n/proc/sys/c:x:y\n"))
    assert found.settings == {"a/b": "1 2; 3", "c": "x:y"}


def test_what_the_guest_did_not_say_is_not_empty_but_unknown() -> None:
    found = kernel.parse({})
    assert (found.settings, found.modules, found.mounts, found.swaps, found.clock) == (None,) * 5


def test_mounts_over_each_other_are_told_apart_and_sizes_are_of_one_boot() -> None:
    found = kernel.parse(sections(kernel__mounts="a /x ext4 rw,size=10k,relatime 0 0\nb /x tmpfs ro 0 0\n"))
    assert list(map(str, found.mounts["/x"])) == ["ext4 of a (rw,size=10k,relatime)", "tmpfs of b (ro)"]
    assert str(found.of_any_boot.mounts["/x"][0]) == "ext4 of a (rw,relatime)"


def test_a_clock_is_read_as_far_as_the_round_trip_allows() -> None:
    found = kernel.parse(
        {
            **sections(kernel__clock="103.5\n"),
            kernel.HOST_CLOCK: Section(kernel.HOST_CLOCK, 0, b"100.0 104.0"),
        }
    )
    assert found.clock == kernel.Clock(ahead=1.5, margin=2.0)


def test_when_a_command_ran_is_no_setting_of_a_unit() -> None:
    told = "argv[]=/bin/x -a ; ignore_errors=no"
    ran = (
        f"{{ path=/bin/x ; {told} ; start_time=[Mon] ; stop_time=[n/a] ; pid=7 ; code=(null) ; status=0/0 }}"
    )
    again = ran.replace("Mon", "Tue").replace("n/a", "Wed").replace("pid=7", "pid=9").replace("0/0", "1/0")
    one, other = (units.unit({"Id": "x.service", "ExecStart": text}) for text in (ran, again))
    assert one == other
    assert told in one.settings["ExecStart"]


def test_the_order_of_a_set_of_units_is_no_setting() -> None:
    one, other = (
        units.unit({"Id": "x.service", "Requires": text}) for text in ("a.mount b.slice", "b.slice a.mount")
    )
    assert one == other


STAT = "{pid} (x) S {parent} " + " ".join(["0"] * 17) + " {start} 0\n"


def seen(*rows: tuple[int, int, str, str]) -> tuple[processes.Program, ...] | None:
    """Return processes of number, parent, link to the program and group; 900 looks."""
    texts = {
        "services.stat": "".join(STAT.format(pid=pid, parent=parent, start=5) for pid, parent, _, _ in rows),
        "services.groups": "".join(f"/proc/{pid}/cgroup:0::{group}\n" for pid, _, _, group in rows),
        "processes.self": "900\n",
        "processes.files": "".join(f"/proc/{pid}/exe\0root\0{file}\0" for pid, _, file, _ in rows),
        "processes.users": "/proc/7/status:Uid:\t33\t33\t33\t33\n/proc/8/status:Uid:\t0\t77\t0\t77\n",
        "state.owners": "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\n\nroot:x:0:\n",
        "processes.commands": "/proc/7/cmdline:sh\n-c\na  b\n\n",
        "processes.gone": "".join(
            f"/proc/7/maps:1-2 r-xp 0 0:1 9  {file} (deleted)\n" for file in ("/lib/a b.so", "/memfd:x")
        ),
    }
    return processes.parse({name: Section(name, 0, text.encode()) for name, text in texts.items()})


def test_who_looks_and_the_kernels_own_are_no_processes() -> None:
    rows = seen(
        (2, 0, "", "/"), (5, 1, "/usr/sbin/sshd", "/x"), (900, 5, "/bin/bash", "/x"), (901, 900, "/bin/cat", "/x"),
        (7, 1, "/bin/dash (deleted)", "/system.slice/a.service/b"), (8, 5, "/bin/nc", "/user.slice/session-1.scope"),
    )  # fmt: skip
    assert [(row.pid, row.file, row.unit) for row in rows or ()] == [
        (7, "/bin/dash", "a.service"),
        (8, "/bin/nc", "outside services"),
    ]
    assert rows[0].gone == ("/bin/dash", "/lib/a b.so")
    # Whose the links of /proc are says nothing: root's, once a process has become another user's.
    assert [row.owner for row in rows] == ["www-data", "77"]


def test_arguments_are_never_told() -> None:
    program = processes.Program(
        1, 1, 1, "/usr/bin/python3.11", "root", "x", "python3 -u /opt/x.py --password=y"
    )
    assert program.name == "python3.11 /opt/x.py"


def test_sockets_of_other_kinds_are_told_in_words() -> None:
    unix = (
        "Num\nff: 2 0 00010000 1 01 7 /run/a b.375.tmp\nff: 2 0 00000000 1 01 7 /run/c\nff: 2 0 10000 1 1 8\n"
    )
    found = sockets.parse_others(
        sections(
            sockets__unix=unix,
            sockets__raw="  sl local\n   1: 00000000:0001 00000000:0000 07\n",
            sockets__packet="sk\n0 3 3 0806 2 1 0 0 9\n",
        )
    )
    assert found == {
        "UNIX socket /run/a b",
        "raw socket of protocol 1",
        "packet socket for protocol 0806 on interface 2",
    }


def test_a_later_snapshot_reads_only_what_was_written(tmp_path: Path, local_guest: Guest) -> None:
    folder, far = tmp_path / "etc", tmp_path / "far"
    for place in (folder, far):
        place.mkdir()
        (place / "same").write_text("1")
        (place / "written").write_text("1")
        os.utime(place / "same", (1, 1))
    folders, roots = [str(folder)], [str(tmp_path)]
    first = files.parse(collect(local_guest, files.commands(folders, roots)), folders)
    (folder / "written").write_text("2")
    (far / "written").write_text("2")
    (far / "new").symlink_to("x")
    found = collect(local_guest, files.commands(folders, roots, first))
    later = files.parse(found, folders, earlier=first)
    lines = [line.replace(str(tmp_path), "") for line in files.readable(files.diff(first, later))]
    assert lines[0] == "/etc/written: content 6b86b273ff34 -> d4735e3a265e"
    assert lines[1].startswith("/far/new: added (link")
    assert lines[2].startswith("/far/written: content 1 bytes of ")
    assert len(lines) == 3


def test_a_file_that_was_written_and_dated_back_is_seen(tmp_path: Path, local_guest: Guest) -> None:
    (tmp_path / "tool").write_text("1")
    os.utime(tmp_path / "tool", (1000, 1000))
    roots = [str(tmp_path)]
    first = files.parse(collect(local_guest, files.commands([], roots)), [])
    (tmp_path / "tool").write_text("2")
    os.utime(tmp_path / "tool", (1000, 1000))
    later = files.parse(collect(local_guest, files.commands([], roots, first)), [], earlier=first)
    assert [row.change for row in files.diff(first, later)] == ["content"]


@pytest.mark.parametrize(
    ("section", "check"),
    [
        ("kernel.settings", "kernel.settings"), ("kernel.modules", "kernel.modules"),
        ("kernel.mounts", "kernel.mounts"),
        ("kernel.swaps", "kernel.swap"), ("kernel.clock", "kernel.clock"), ("sockets.unix", "sockets.same"),
        ("processes.files", "processes.none-new"),
    ],
)  # fmt: skip
def test_a_check_that_could_not_look_is_an_error(section: str, check: str) -> None:
    made = world()
    made.patched.texts[section] = None if section != "processes.files" else ""
    outcome = {row.name: row for row in judge(made.case())}[check]
    assert outcome.verdict == "error"
    assert outcome.reason.startswith("the VM did not say ")
