"""Generated trees: odd names, links, modes, emptiness, and paths that change between file, folder and link."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import FolderVm

CHUNKS = 8
ALL, SAMPLE = 1000, 120  # trees with --full, and without
ALPHABET = "abAB.-_ $'\"\\*?[]{}()!#&;|<>~`%^=+,@éß"
names = st.text(ALPHABET, min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
contents = st.binary(max_size=40)
modes = st.sampled_from([0o600, 0o640, 0o644, 0o755, 0o4755])
leaves = st.tuples(contents, modes)
TOPS = ("etc/gen", "opt/gen", "root/gen")


@st.composite
def trees(draw: st.DrawFn) -> dict[str, object]:
    """Return path -> (content, mode), or a link target, or None for an empty folder; no path is below a leaf."""
    tree: dict[str, object] = {}
    for top in TOPS:
        for _ in range(draw(st.integers(0, 4))):
            path = "/".join([top, *draw(st.lists(names, min_size=1, max_size=3))])
            parents = {path[:i] for i, char in enumerate(path) if char == "/"}
            if parents & tree.keys() or any(other.startswith(path + "/") for other in tree):
                continue
            tree[path] = draw(leaves)
    return tree


@st.composite
def disks(draw: st.DrawFn, paths: list[str]) -> dict[str, object]:
    """Return what stands on the disk where a bundle's paths go: files, links, folders with something in them."""
    disk: dict[str, object] = {}
    for path in paths:
        kind = draw(st.sampled_from(["absent", "same place", "link", "folder", "full folder"]))
        if kind == "absent" or any(path.startswith(other + "/") for other in disk):
            continue
        if kind == "same place":
            disk[path] = draw(leaves)
        elif kind == "link":
            disk[path] = draw(st.sampled_from(["/etc/hostname", "nowhere", "/opt"]))
        elif kind == "folder":
            disk[path] = None
        else:
            disk[f"{path}/{draw(names)}"] = draw(leaves)
    return disk


@st.composite
def stories(draw: st.DrawFn) -> tuple[dict[str, object], dict[str, object], dict[str, object]]:
    old, new = draw(trees()), draw(trees())
    if draw(st.booleans()):
        new = {path: draw(leaves) for path in old} | {k: v for k, v in new.items() if _fits(k, old)}
    return old, new, draw(disks(sorted(set(old) | set(new))))


def _fits(path: str, tree: dict[str, object]) -> bool:
    return not any(
        other == path or other.startswith(path + "/") or path.startswith(other + "/") for other in tree
    )


def _put(root: Path, disk: dict[str, object]) -> None:
    for path, what in disk.items():
        target = root / path
        _clear(root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if what is None:
            target.mkdir()
        elif isinstance(what, str):
            target.symlink_to(what)
        else:
            content, mode = what
            target.write_bytes(content)
            target.chmod(mode)


def _clear(root: Path, path: str) -> None:
    """Remove whatever is at a path, and files where it needs folders."""
    place = root
    for part in path.split("/")[:-1]:
        place /= part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            place.unlink()
    target = root / path
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def _contents(base: bundles.Content, tree: dict[str, object]) -> bundles.Content:
    return replace(
        base, scripts=base.scripts | {path: what for path, what in tree.items() if isinstance(what, tuple)}
    )


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_any_tree_goes_through_patch_and_rollback(stage, tally, request, chunk):
    count = 0
    examples = (ALL if request.config.getoption("--full") else SAMPLE) // CHUNKS

    @seed(request.config.getoption("--walk-seed") + chunk)
    @settings(
        max_examples=examples,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(stories())
    def play(story):
        nonlocal count
        count += 1
        old, new, disk = story
        with stage.clone("ilbvm") as lab:
            _put(lab.root, disk)
            shipped = bundles.make(_contents(bundles.old_content(), old))
            (lab.root / "var/lib/cloud-livepatch/installed.manifest").write_text(shipped.manifest)
            _rolls_back(lab, _contents(bundles.broken_content(), new))
            _patches(lab, _contents(bundles.new_content(), new))

    play()
    tally("generated trees", count)


def _rolls_back(lab: FolderVm, content: bundles.Content) -> None:
    before = lab.state()
    run = lab.patch(bundles.make(content))
    assert run.status == 1 and "rolled back" in run.output, (
        run,
        lab.read("var/log/livepatchsystemvm.log")[-2000:],
    )
    after = lab.state()
    assert after == before, {
        k: (before.get(k), after.get(k))
        for k in before.keys() | after.keys()
        if before.get(k) != after.get(k)
    }


def _patches(lab: FolderVm, content: bundles.Content) -> None:
    run = lab.patch(bundles.make(content))
    assert run.status == 0, (run, lab.read("var/log/livepatchsystemvm.log")[-2000:])
    for path, (data, mode) in content.scripts.items():
        if path.split("/")[1] != "gen":
            continue
        target = lab.root / path
        assert target.read_bytes() == data, path
        assert target.lstat().st_mode == 0o100000 | mode, path
