import os
import subprocess
import sys
import threading

import pytest

from bundle.errors import InfrastructureError
from harness.host import cache


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(text):
    return lambda folder: (folder / "content").write_text(text) and None


def test_an_entry_is_made_once():
    first = cache.obtain("things", "k", put("one"))
    second = cache.obtain("things", "k", put("two"))
    assert first == second
    assert (second / "content").read_text() == "one"


def test_a_failed_fill_leaves_nothing(root):
    def fail(folder):
        (folder / "half").write_text("x")
        raise InfrastructureError("the tool broke")

    with pytest.raises(InfrastructureError, match="the tool broke"):
        cache.obtain("things", "k", fail)
    assert cache.entries("things") == []
    assert list((root / "things").iterdir()) == []


def test_what_a_killed_fill_left_is_no_entry_and_is_replaced(root):
    program = (
        "import os, signal\n"
        "from harness.host import cache\n"
        "def fill(folder):\n"
        "    (folder / 'half').write_text('x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "cache.obtain('things', 'k', fill)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    assert [p.name for p in (root / "things").iterdir()] == ["k.partial"]
    assert cache.entries("things") == []
    path = cache.obtain("things", "k", put("whole"))
    assert sorted(p.name for p in path.iterdir()) == ["content"]


def test_partials_of_the_dead_are_collected_and_those_of_the_living_kept(root):
    (root / "things" / "dead.partial").mkdir(parents=True)
    (root / "things" / "alive.partial").mkdir()
    with cache.locked("things", "alive"):
        assert cache.collect_partials("things") == [root / "things" / "dead.partial"]
    assert (root / "things" / "alive.partial").is_dir()


def test_two_builds_of_the_same_thing_become_one():
    filled = []
    inside, proceed = threading.Event(), threading.Event()

    def slow(folder):
        filled.append(folder)
        inside.set()
        proceed.wait(10)
        (folder / "content").write_text("x")

    threads = [threading.Thread(target=cache.obtain, args=("things", "k", slow)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert inside.wait(10)
    proceed.set()
    for thread in threads:
        thread.join(10)
    assert len(filled) == 1


def test_discard_removes_the_entry():
    path = cache.obtain("things", "k", put("one"))
    cache.discard("things", "k")
    assert not path.exists()


def test_keys_depend_on_every_part_and_on_nothing_else():
    assert cache.key_of("a", ["b", 1]) == cache.key_of("a", ["b", 1])
    assert cache.key_of("a", "b") != cache.key_of("ab")
    assert cache.key_of(["a"], "b") != cache.key_of("a", ["b"])


def test_digest_of_files_sees_names_and_contents(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("x")
    two.write_text("x")
    assert cache.digest_of_files([one]) != cache.digest_of_files([two])
    before = cache.digest_of_files([two, one])
    assert before == cache.digest_of_files([one, two])
    two.write_text("y")
    assert cache.digest_of_files([one, two]) != before


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(InfrastructureError, match="cannot make the cache folder"):
        cache.cache_root()


def test_without_root_the_cache_is_the_users(tmp_path, monkeypatch):
    monkeypatch.delenv("SYSVM_CACHE")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_root() == tmp_path / "xdg" / "sysvm-livepatch"
