"""A host before a run: its files, its program, and how many scenarios it makes at once."""

from __future__ import annotations

from harness.plugin.cluster.host import digests, places
from harness.plugin.cluster.hosts import files_in


def test_the_files_that_options_name_are_known(tmp_path):
    (tmp_path / "net.toml").touch()
    words = [
        f"--network={tmp_path}/net.toml",
        f"--template=4.20=x,4.21={tmp_path}",
        "--type=router",
        "--mixed",
    ]
    assert files_in(words) == [f"{tmp_path}/net.toml", str(tmp_path)]


def test_a_digest_of_a_folder_tells_what_is_in_it_apart(tmp_path):
    one, two = tmp_path / "1" / "tree", tmp_path / "2" / "tree"
    for folder in (one, two):
        (folder / ".git").mkdir(parents=True)
        (folder / "a").write_text("a")
        (folder / ".git" / "x").write_text(str(folder))
    first, second, missing = digests([str(one), str(two), str(tmp_path / "nosuch")]).values()
    assert first == second
    assert missing == ""
    (two / "a").write_text("b")
    assert digests([str(two)])[str(two)] != first


def test_a_host_has_a_place_a_core_as_long_as_there_is_memory(monkeypatch):
    monkeypatch.setenv("SYSVM_SLOTS", "65536,32")
    assert places() == 4
    monkeypatch.setenv("SYSVM_SLOTS", "1300,32")
    assert places() == 2
    monkeypatch.setenv("SYSVM_SLOTS", "100,8")
    assert places() == 1
