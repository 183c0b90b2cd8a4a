"""What of the cache goes, and what stays whatever is asked for."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
from click.testing import CliRunner

from bundle.errors import UsageError
from harness.cli.cache import cache as command
from harness.host import cache, locks
from harness.vm import golden, retention

DAY = 86400
MIB = 1 << 20


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path))
    return tmp_path


def put(root, kind, key, *, days=0.0, facts=None):
    """Make an entry of one MiB that was used some days ago."""
    folder = root / kind / key
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(os.urandom(MIB))
    used = time.time() - days * DAY
    for name, content in (facts or {}).items():
        (folder / name).write_text(json.dumps(content))
        os.utime(folder / name, (used, used))
    os.utime(folder, (used, used))
    return folder


def put_golden(root, key, days=0.0):
    return put(root, "golden", key, days=days, facts={"golden.json": {"facts": {}, "files": {}}})


def put_image(root, key, base, days=0.0):
    return put(root, "images", key, days=days, facts={"image.json": {"base": base}})


def overlay(path, backing):
    """Make an overlay as the engine does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(backing), "-F", "qcow2", str(path), "1M"],
        check=True,
    )


def make_disk(image):
    """Make the disk of an image; returns its path."""
    disk = image / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1M"], check=True)
    return disk


def keys(entries):
    return [entry.key for entry in entries]


def test_lists_the_one_used_last_first(root):
    put_golden(root, "old", days=3)
    put_golden(root, "new")
    put_image(root, "image", base="base", days=2)
    put(root, "bases", "base", days=5)
    assert keys(retention.entries()) == ["new", "image", "old", "base"]


def test_age_takes_what_is_older_and_the_bases_that_nobody_needs_then(root):
    put_golden(root, "old", days=3)
    put_golden(root, "new")
    put_image(root, "stale", base="lonely", days=8)
    put_image(root, "fresh", base="needed", days=1)
    put(root, "bases", "lonely", days=8)
    put(root, "bases", "needed", days=8)
    assert keys(retention.choose(retention.entries(), days=2)) == ["stale", "old", "lonely"]


def test_size_takes_the_oldest_until_the_rest_fits(root):
    for age in range(5):
        put_golden(root, f"g{age}", days=age)
    room = sum(entry.size for entry in retention.entries() if entry.key in ("g0", "g1", "g2"))
    gone = retention.remove(retention.choose(retention.entries(), size=room))
    assert keys(gone) == ["g4", "g3"]
    assert keys(retention.entries()) == ["g0", "g1", "g2"]
    assert not (root / "golden" / "g4").exists()


def test_what_a_machine_stands_on_stays(root):
    image = put_image(root, "image", base="base", days=9)
    put(root, "bases", "base", days=9)
    disk = make_disk(image)
    held, free = put_golden(root, "held", days=9), put_golden(root, "free", days=9)
    for folder in (held, free):
        overlay(folder / "system.qcow2", disk)
    overlay(root / "work" / "run1" / "a.qcow2", held / "system.qcow2")
    assert keys(retention.choose(retention.entries(), days=0, size=0)) == ["free"]


def test_a_pair_of_machines_holds_the_snapshot_that_has_both(root):
    image = put_image(root, "image", base="base", days=9)
    disk = make_disk(image)
    pair = put_golden(root, "pair", days=9)
    for place in ("first", "second"):
        overlay(pair / place / "system.qcow2", disk)
    overlay(root / "work" / "run1" / "a.qcow2", pair / "second" / "system.qcow2")
    assert retention.choose(retention.entries(), days=0, size=0) == []


def test_what_another_process_removes_meanwhile_is_left_out(root, monkeypatch):
    put_golden(root, "stays")
    gone = put_golden(root, "goes")

    def size_of(path, measure=cache.size_of):
        if path == gone:
            raise FileNotFoundError(path)
        return measure(path)

    monkeypatch.setattr(cache, "size_of", size_of)
    assert keys(retention.entries()) == ["stays"]


def test_what_is_being_looked_up_stays(root):
    put_golden(root, "busy", days=9)
    with locks.exclusive(root / "golden" / "busy.lock"):
        assert retention.remove(retention.choose(retention.entries(), days=0)) == []
    assert keys(retention.remove(retention.choose(retention.entries(), days=0))) == ["busy"]


@pytest.mark.parametrize("name", ["golden/a/golden.json", "images/a/image.json"])
def test_what_was_used_after_it_was_chosen_stays(root, name):
    put_golden(root, "a", days=9)
    put_image(root, "a", base="", days=9)
    chosen = retention.choose(retention.entries(), days=1)
    assert len(chosen) == 2
    os.utime(root / name)
    (gone,) = retention.remove(chosen)
    assert (root / name).exists()
    assert not gone.path.exists()


def test_collecting_images_leaves_snapshots_and_what_a_machine_stands_on(root):
    put_golden(root, "snapshot", days=9)
    held, free = (put_image(root, key, base=key, days=9) for key in ("held", "free"))
    for key in ("held", "free"):
        put(root, "bases", key, days=9)
    overlay(root / "work" / "run1" / "a.qcow2", make_disk(held))
    assert retention.collect_images(7, dry_run=True) == [free, root / "bases" / "free"]
    assert retention.collect_images(7) == [free, root / "bases" / "free"]
    assert {(entry.kind, entry.key) for entry in retention.entries()} == {
        ("golden", "snapshot"), ("images", "held"), ("bases", "held"),
    }  # fmt: skip


def test_a_snapshot_in_the_making_is_not_seen(root):
    (root / "golden" / "half").mkdir(parents=True)
    (root / "golden" / "half" / "system.ram").write_bytes(b"x")
    assert retention.entries() == []


def test_making_a_snapshot_keeps_the_cache_within_its_limit(root, monkeypatch):
    monkeypatch.setenv("SYSVM_CACHE_LIMIT", "3M")
    put_golden(root, "old", days=2)
    put_golden(root, "older", days=3)
    put_golden(root, "lately", days=0.5 / 24)

    def make(folder):
        (folder / "system.ram").write_bytes(os.urandom(MIB))
        return {}

    made = golden.get("made", make)
    assert made.folder.is_dir()
    assert set(keys(retention.entries())) == {"made", "lately"}


def test_an_old_version_of_a_removed_snapshot_is_not_believed(root):
    folder = put_golden(root, "a", days=2)
    assert keys(retention.remove(retention.choose(retention.entries(), days=1))) == ["a"]
    assert not folder.exists()
    assert golden.get("a", lambda folder: {"made": "again"}).facts == {"made": "again"}


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("12", 12), ("2k", 2048), ("1.5G", 3 << 29), ("1T", 1 << 40)]
)
def test_reads_sizes(text, size):
    assert retention.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "ten", "3X", "1e999"])
def test_refuses_what_is_no_size(text):
    with pytest.raises(UsageError, match="is no size"):
        retention.parse_size(text)


def test_the_command_says_what_it_removes(root):
    put_golden(root, "a" * 24, days=2)
    trial = CliRunner().invoke(command, ["gc", "--days", "1", "--dry-run"])
    assert trial.output.splitlines()[0].startswith("would remove golden aaaaaaaaaaaa")
    assert keys(retention.entries()) == ["a" * 24]
    real = json.loads(CliRunner().invoke(command, ["gc", "--days", "1", "--json"]).output)
    assert [row["key"] for row in real] == ["a" * 24]
    assert json.loads(CliRunner().invoke(command, ["list", "--json"]).output) == []
