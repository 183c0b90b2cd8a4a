"""State digests: every kind of difference is seen, odd names survive, volatile paths are left out."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bundle.errors import InfrastructureError
from harness.guest.collect import Section, collect, script
from harness.observe import attributes, files, reviewed

if TYPE_CHECKING:
    from harness.guest.protocols import Guest

SILENT = {
    name: Section(name, 0, b"") for name in ("state.clock", "state.flags", "state.owners", "state.devices")
}
OWNER = f"{Path.home().owner()}:{Path.home().group()}"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "etc"
    (root / "ssl").mkdir(parents=True)
    (root / "haproxy.cfg").write_text("global\n")
    (root / "haproxy.cfg").chmod(0o644)
    (root / "secret").write_text("x")
    (root / "secret").chmod(0o600)
    (root / "link").symlink_to("haproxy.cfg")
    return root


def listed(path: str) -> bytes:
    """Return the row that the guest lists for a file."""
    return f"f\x00644\x00root\x00root\x001\x0012\x001\x001000.0\x001000.0\x00{path}\x00\x00".encode()


def change(tree: Path, guest: Guest, act: Callable[[], object]) -> list[str]:
    """Return the readable differences that an act makes, paths relative to the tree."""
    before = files.take(guest, [str(tree)])
    act()
    lines = files.readable(files.diff(before, files.take(guest, [str(tree)])))
    return [line.replace(f"{tree}/", "") for line in lines]


def test_an_untouched_tree_has_no_difference(tree: Path, local_guest: Guest) -> None:
    assert change(tree, local_guest, lambda: None) == []
    assert str(tree / "haproxy.cfg") in files.take(local_guest, [str(tree)])


def test_a_new_time_stamp_is_no_difference(tree: Path, local_guest: Guest) -> None:
    assert change(tree, local_guest, lambda: os.utime(tree / "secret", (1, 1))) == []


def test_added_and_removed_paths(tree: Path, local_guest: Guest) -> None:
    assert change(tree, local_guest, lambda: (tree / "haproxy.cfg").rename(tree / "new")) == [
        f"haproxy.cfg: removed (file, 0644, {OWNER})",
        f"new: added (file, 0644, {OWNER})",
    ]


def test_changed_content_names_both_digests(tree: Path, local_guest: Guest) -> None:
    (line,) = change(tree, local_guest, lambda: (tree / "secret").write_text("y"))
    assert line == "secret: content 2d711642b726 -> a1fce4363854"


def test_a_mode_with_a_special_bit(tree: Path, local_guest: Guest) -> None:
    assert change(tree, local_guest, lambda: (tree / "secret").chmod(0o4755)) == ["secret: mode 0600 -> 4755"]


@pytest.mark.root
def test_several_differences_of_a_path_are_one_line(tree: Path, local_guest: Guest) -> None:
    def both() -> None:
        (tree / "secret").chmod(0o644)
        os.chown(tree / "secret", 1, 1)

    assert change(tree, local_guest, both) == ["secret: mode 0600 -> 0644; owner root:root -> daemon:daemon"]


def test_a_link_to_elsewhere(tree: Path, local_guest: Guest) -> None:
    def act() -> None:
        (tree / "link").unlink()
        (tree / "link").symlink_to("secret")

    assert change(tree, local_guest, act) == ["link: link haproxy.cfg -> secret"]


def test_a_link_in_the_place_of_a_file(tree: Path, local_guest: Guest) -> None:
    def act() -> None:
        (tree / "secret").unlink()
        (tree / "secret").symlink_to("haproxy.cfg")

    (line,) = change(tree, local_guest, act)
    assert line.startswith("secret: type file -> link; link none -> haproxy.cfg")


@pytest.mark.parametrize(
    "name", ["a b", "tab\there", "line\nbreak", "back\\slash", "=", "ünï", "-n", "f\t0644"]
)
def test_odd_names_survive(tree: Path, local_guest: Guest, name: str) -> None:
    before = files.take(local_guest, [str(tree)])
    (tree / name).write_text("1")
    (tree / f"to{name}").symlink_to(name)
    after = files.take(local_guest, [str(tree)])
    assert {d.path for d in files.diff(before, after)} == {str(tree / name), str(tree / f"to{name}")}
    assert after.entries[str(tree / name)].sha256.startswith("6b86b273ff34")
    assert after.entries[str(tree / f"to{name}")].link == name


def test_a_name_that_is_no_unicode_survives(tree: Path, local_guest: Guest) -> None:
    path = os.fsencode(tree) + b"/\xff\xfe"
    before = files.take(local_guest, [str(tree)])
    Path(os.fsdecode(path)).write_text("1")
    differences = files.diff(before, files.take(local_guest, [str(tree)]))
    assert [os.fsencode(d.path) for d in differences] == [path]
    assert files.readable(differences)[0].isprintable()


@pytest.mark.parametrize("name", ["plain", "two lines\nand ' a quote", os.fsdecode(b"no \xff unicode")])
def test_what_is_written_while_the_clock_is_behind_is_read(tree: Path, local_guest: Guest, name: str) -> None:
    folders = [str(tree)]
    (tree / name).write_text("old")
    taken = files.take(local_guest, folders)
    (tree / name).write_text("new, by a clock that is an hour behind")
    before = replace(taken, taken=taken.taken + 3600)
    sections = collect(local_guest, files.commands(folders, folders, before))
    assert sections["state.hashes"].output == b""
    after = files.completed(local_guest, files.parse(sections, folders, earlier=before))
    digest = hashlib.sha256(b"new, by a clock that is an hour behind").hexdigest()
    assert [entry.sha256 for path, entry in after.entries.items() if path.endswith(name)] == [digest]


def test_a_file_that_is_gone_when_it_is_read_is_unreadable(tree: Path, local_guest: Guest) -> None:
    folders = [str(tree)]
    taken = files.take(local_guest, folders)
    (tree / "secret").write_text("new")
    before = replace(taken, taken=taken.taken + 3600)
    seen = files.parse(
        collect(local_guest, files.commands(folders, folders, before)), folders, earlier=before
    )
    (tree / "secret").unlink()
    after = files.completed(local_guest, seen)
    assert after.entries[str(tree / "secret")].sha256 == "unreadable"


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path, local_guest: Guest) -> None:
    assert files.take(local_guest, [str(tmp_path / "none")]).entries == {}


def test_a_folder_may_come_and_go(tmp_path: Path, local_guest: Guest) -> None:
    folder = tmp_path / "agent"
    before = files.take(local_guest, [str(folder)])
    folder.mkdir()
    folder.chmod(0o755)
    (line,) = files.readable(files.diff(before, files.take(local_guest, [str(folder)])))
    assert line == f"{folder}: added (folder, 0755, {OWNER})"


def test_volatile_paths_are_left_out_with_a_reason() -> None:
    def snapshot(*paths: str) -> files.DiskState:
        return files.DiskState(("/",), {p: files.PathState(p, "file", 0o644, "root", "root") for p in paths})

    volatile = (
        "/opt/cloud/bin/cs/__pycache__/x.pyc", "/var/cache/cloud/agent.zip",
        "/root/basic_monitor_results.json", "/root/advanced_failing_health_checks",
    )  # fmt: skip
    differences = files.diff(snapshot(*volatile), snapshot("/etc/new"))
    assert [str(d) for d in differences] == ["/etc/new: added (file, 0644, root:root)"]
    assert all(reviewed.reason("path", path) for path in volatile)
    assert reviewed.reason("path", "/var/cache/cloud/cloud-scripts-signature") is None
    assert reviewed.reason("path", "/root/health_checks_data.json") is None


def test_attributes_are_compared_when_both_sides_have_them() -> None:
    def snapshot(text: str, status: int) -> files.DiskState:
        return files.parse(
            {
                "state.paths": Section("state.paths", 0, listed("/ü b")),
                "state.hashes": Section("state.hashes", 0, "00ff  /ü b\x00".encode()),
                **SILENT,
                "state.xattrs": Section("state.xattrs", status, text.encode()),
            }
        )

    capable = snapshot("# file: /\\303\\274\\040b\nsecurity.capability=0x01\n\n", 0)
    plain = snapshot("", 0)
    assert [str(d) for d in files.diff(capable, plain)] == [
        "/ü b: attributes security.capability=0x01 -> none"
    ]
    assert files.diff(capable, snapshot("", 127)) == ()


def test_a_listing_that_was_cut_is_refused() -> None:
    cut = {
        "state.paths": Section("state.paths", 0, listed("/a")[:-2]),
        "state.hashes": Section("state.hashes", 0, b""),
        "state.xattrs": Section("state.xattrs", 0, b""),
    }
    with pytest.raises(InfrastructureError, match=r"r-1-VM: the listing of /etc, .* is incomplete"):
        files.parse(cut, name="r-1-VM")


def test_a_file_without_a_digest_always_differs() -> None:
    def snapshot() -> files.DiskState:
        return files.parse(
            {
                "state.paths": Section("state.paths", 0, listed("/a")),
                "state.hashes": Section("state.hashes", 123, b""),
                **SILENT,
                "state.xattrs": Section("state.xattrs", 127, b""),
            },
            ("/",),
        )

    assert [d.change for d in files.diff(snapshot(), snapshot())] == ["content"]


def test_the_readable_lines_are_limited_and_counted() -> None:
    differences = [files.PathDifference(f"/{n:03}", "added", after="file") for n in range(50)]
    lines = files.readable(differences, limit=10)
    assert len(lines) == 11
    assert lines[-1] == "and 40 more paths"


def test_outputs_of_a_collection_come_back_byte_for_byte(local_guest: Guest) -> None:
    found = collect(local_guest, {"one": r"printf '\0\n \377'", "two": "exit 7", "three": "cat; echo 'a  b'"})
    assert found["one"].output == b"\0\n \xff"
    assert (found["two"].status, found["two"].output) == (7, b"")
    assert found["three"].text == "a  b\n"


def test_a_collection_that_stops_early_says_so(local_guest: Guest) -> None:
    class Cut:
        name = "r-1-VM"

        def __getattr__(self, name: str) -> object:
            return getattr(local_guest, name)

        def run(self, command: str, **options: object) -> object:
            return local_guest.run("echo one 0; echo oops >&2; exit 9", check=False)

    with pytest.raises(InfrastructureError, match="r-1-VM: collecting one, two ended early, status 9: oops"):
        collect(Cut(), {"one": "true", "two": "true"})


def test_a_section_name_that_would_break_the_script_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid name of a section"):
        script({"a b": "true"})


def test_attributes_are_listed_without_getfattr(tmp_path):
    odd = tmp_path / "a folder" / "odd\\ =\nname"
    odd.parent.mkdir()
    odd.touch()
    (tmp_path / "plain").touch()
    try:
        os.setxattr(odd, "user.note", b"a\x00b")
    except OSError:
        pytest.skip("this file system keeps no attributes")
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", attributes._ATTRIBUTES, str(tmp_path)],
        capture_output=True,
        check=True,
    )
    assert attributes.parse_xattrs(done.stdout.decode()) == {str(odd): (("user.note", "0x610062"),)}


@pytest.mark.skipif(
    not os.access("/dev/shm", os.W_OK), reason="this machine has no memory that programs share"
)
def test_what_is_planted_among_devices_and_in_shared_memory_is_seen(local_guest: Guest) -> None:
    command = files.commands([], ["/dev"])["state.paths"]
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as planted:
        listing = collect(local_guest, {"state.paths": command})["state.paths"].text
    assert f"\0{planted.name}\0" in listing
    assert "\0/dev/null\0" in listing


def test_what_an_observation_keeps_for_a_moment_is_closed_to_others(local_guest: Guest) -> None:
    command = 'stat -c "%a %n" "$folder" "$folder"/*'
    told = collect(local_guest, {"one.first": "echo secret", "one.modes": command})["one.modes"].text
    modes = {line.partition(" ")[0] for line in told.splitlines()}
    assert modes == {"700", "600"}
