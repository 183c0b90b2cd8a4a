import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.image.tree import Node, Tree, in_order


@pytest.fixture
def tree(tmp_path):
    found = Tree(tmp_path / "objects", epoch=7)
    found.add_dir("usr/lib")
    found.add_link("lib", "usr/lib")
    return found


def archive(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, extra in members:
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.mode, info.uid = kind, 5, 0o4711, 3
            content = extra if kind == tarfile.REGTYPE else b""
            info.size = len(content)
            info.linkname = extra if isinstance(extra, str) else ""
            tar.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def test_takes_over_owner_mode_and_time_of_a_tar_archive(tmp_path):
    tree = Tree(tmp_path / "o", epoch=7)
    tree.read_tar(
        archive(
            ("./bin", tarfile.DIRTYPE, ""),
            ("./bin/x", tarfile.REGTYPE, b"content"),
            ("./bin/y", tarfile.SYMTYPE, "x"),
            ("./bin/z", tarfile.LNKTYPE, "./bin/x"),
            ("./dev/null", tarfile.CHRTYPE, ""),
        )
    )
    node = tree.nodes["bin/x"]
    assert (node.kind, node.mode, node.uid, node.mtime) == ("file", 0o4711, 3, 5)
    assert tree.read("bin/y") == b"content"
    assert tree.nodes["bin/z"] == node
    assert "dev/null" not in tree


def test_file_capabilities_survive(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("ping")
        info.pax_headers = {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
        tar.addfile(info, io.BytesIO())
    buffer.seek(0)
    tree = Tree(tmp_path / "o", epoch=7)
    tree.read_tar(buffer)
    assert tree.nodes["ping"].capability == "01000002"


def test_paths_go_through_linked_folders(tree):
    tree.add_file("lib/x", b"1")
    assert "usr/lib/x" in tree
    assert tree.read("/lib/x".removeprefix("/")) == b"1"
    tree.chmod("lib/x", 0o755)
    assert tree.nodes["usr/lib/x"].mode == 0o755
    tree.remove("lib/x")
    assert "usr/lib/x" not in tree


def test_adding_a_file_makes_the_folders_above_it(tree):
    tree.add_file("a/b/c", b"1", 0o600)
    assert [tree.nodes[p].kind for p in ("a", "a/b", "a/b/c")] == ["dir", "dir", "file"]


def test_a_folder_that_is_there_keeps_its_mode(tree):
    tree.add_dir("root", 0o700)
    tree.add_dir("root", 0o755)
    assert tree.nodes["root"].mode == 0o700


def test_a_file_replaces_a_link_and_not_what_it_points_to(tree):
    tree.add_file("etc/target", b"old")
    tree.add_link("etc/name", "target")
    tree.add_file("etc/name", b"new")
    assert tree.read("etc/target") == b"old"
    assert tree.read("etc/name") == b"new"


def test_names_are_those_directly_below(tree):
    tree.add_file("boot/grub/x", b"")
    tree.add_file("boot/vmlinuz", b"")
    assert tree.names("boot") == ["grub", "vmlinuz"]
    assert tree.names("absent") == []


def test_removing_a_folder_removes_what_is_below_and_nothing_beside(tree):
    tree.add_file("var/log/x", b"")
    tree.add_file("var/log2/x", b"")
    tree.remove("var/log")
    assert tree.below("var") == ["var/log2", "var/log2/x"]


def test_split_takes_out_a_file_system(tree):
    tree.add_file("var/cache/x", b"1")
    taken = tree.split("var")
    assert sorted(taken) == ["cache", "cache/x"]
    assert tree.below("var") == []
    assert "var" in tree


def test_saves_and_loads(tree, tmp_path):
    tree.add_file("etc/x", b"1", 0o640, uid=1, gid=2)
    tree.save(tmp_path / "tree.json")
    loaded = Tree.load(tmp_path / "tree.json", tmp_path / "other", epoch=7)
    assert loaded.nodes == tree.nodes
    loaded.add_file("etc/x", b"2")
    assert tree.read("etc/x") == b"1"


@given(st.sets(st.text("ab-.", min_size=1, max_size=3), min_size=1), st.randoms())
def test_order_does_not_depend_on_insertion_and_has_folders_first(names, random):
    paths = {name for n in names for name in (n, f"{n}/x")}
    shuffled = list(paths)
    random.shuffle(shuffled)
    ordered = [path for path, _ in in_order({path: Node("dir") for path in shuffled})]
    assert ordered == [path for path, _ in in_order({path: Node("dir") for path in sorted(paths)})]
    assert all(ordered.index(n) < ordered.index(f"{n}/x") for n in names)
