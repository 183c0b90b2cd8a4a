"""Golden snapshots: made once, found again, made anew when they cannot be believed."""

from __future__ import annotations

import stat

import pytest

from harness.vm import golden


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path))
    return tmp_path / "golden"


def maker(made, **facts):
    def make(folder):
        (folder / "system.ram").write_bytes(b"ram")
        made.append(folder)
        return {"number": len(made), **facts}

    return make


def test_a_snapshot_is_made_once():
    made = []
    first = golden.get("k", maker(made))
    assert golden.get("k", maker(made)) == first
    assert len(made) == 1


def test_another_ingredient_is_another_key():
    assert golden.key_of({"image": "a"}) == golden.key_of({"image": "a"})
    assert golden.key_of({"image": "a"}) != golden.key_of({"image": "b"})


def test_a_failed_making_leaves_nothing(cache):
    def make(folder):
        (folder / "system.ram").write_bytes(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        golden.get("k", make)
    assert not (cache / "k").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "system.ram").write_bytes(b"longer than before"),
        lambda folder: (folder / "system.ram").unlink(),
        lambda folder: (folder / "stranger").touch(),
        lambda folder: (folder / "golden.json").write_text("{"),
        lambda folder: (folder / "golden.json").unlink(),
    ],
    ids=["written", "missing", "added", "broken facts", "no facts"],
)
def test_a_damaged_snapshot_is_made_again(damage):
    made = []
    damage(golden.get("k", maker(made)).folder)
    assert golden.get("k", maker(made)).facts["number"] == 2


def test_a_snapshot_whose_image_is_gone_is_made_again(tmp_path):
    image = tmp_path / "disk.qcow2"
    image.touch()
    made = []
    golden.get("k", maker(made, needs=[str(image)]))
    image.unlink()
    assert golden.get("k", maker(made)).facts["number"] == 2


def test_the_key_of_a_snapshot_is_for_its_owner_only(tmp_path):
    line = golden.make_key(tmp_path)
    assert line.startswith("ecdsa-sha2-nistp256 ")
    assert stat.S_IMODE((tmp_path / golden.KEY_NAME).stat().st_mode) == 0o600
