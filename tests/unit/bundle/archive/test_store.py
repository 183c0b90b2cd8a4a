"""The cache is right, bounded and safe under concurrent builds; damage to it is noticed and never spreads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.archive.store import DEFAULT_LIMIT, Store, configured_limit
from bundle.errors import UsageError
from bundle.inspect.verify import verify
from bundle.paths import cache_place

Make = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", 10_000)


def entries(store: Store) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_what_was_put_comes_back(store: Store) -> None:
    assert store.get("key") is None
    store.put("key", b"payload")
    assert store.get("key") == b"payload"
    assert store.get("other") is None


def test_an_empty_payload_is_an_entry(store: Store) -> None:
    store.put("key", b"")
    assert store.get("key") == b""


@pytest.mark.parametrize("position", [0, 7, 8, 20, 39, 40, 45])
def test_a_damaged_entry_counts_as_absent_and_is_removed(position: int, store: Store) -> None:
    store.put("key", b"payload")
    path = entries(store)[0]
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert store.get("key") is None
    assert entries(store) == []


def test_a_cut_entry_counts_as_absent(store: Store) -> None:
    store.put("key", b"payload")
    path = entries(store)[0]
    os.truncate(path, 5)
    assert store.get("key") is None


def test_the_limit_holds_and_the_oldest_goes_first(store: Store) -> None:
    for number in range(5):
        store.put(f"key{number}", bytes(3000))
        newest = max(entries(store), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (number, number))
    store.trim()
    assert sum(path.stat().st_size for path in entries(store)) <= 10_000
    assert [store.get(f"key{number}") is not None for number in range(5)] == [False, False, True, True, True]


def test_an_entry_that_is_used_stays_young(store: Store) -> None:
    store.put("used", bytes(3000))
    path = entries(store)[0]
    os.utime(path, (1, 1))
    store.get("used")
    assert path.stat().st_mtime > 1


def test_a_payload_beyond_half_the_limit_is_not_kept(store: Store) -> None:
    store.put("key", bytes(6000))
    assert store.get("key") is None
    assert entries(store) == []


def test_a_writer_that_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.writer("key") as writer:
        writer.write(b"half")
        raise RuntimeError
    assert entries(store) == []


def test_a_store_that_cannot_be_written_is_only_a_miss(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file")
    store.put("key", b"payload")
    assert store.get("key") is None
    store.trim()


def test_concurrent_writers_of_one_key_are_harmless(store: Store) -> None:
    def work() -> None:
        for _ in range(50):
            store.put("key", b"payload")
            assert store.get("key") == b"payload"

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entries(store)) == 1


def test_damage_of_every_entry_does_not_reach_a_bundle(
    source: Path, make: Make, bundle_dir: Path, tmp_path: Path
) -> None:
    make(source, tmp_path / "one", cache=True)
    found = [path for path in cache_place().rglob("*") if path.is_file()]
    assert found
    for path in found:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    verify(make(source, tmp_path / "two", cache=True))
    assert (tmp_path / "two/agent.zip").read_bytes() == (bundle_dir / "agent.zip").read_bytes()


def test_the_folders_of_the_cache_are_open_to_all_whatever_the_umask(store: Store) -> None:
    old = os.umask(0o077)
    try:
        store.put("key", b"payload")
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in (store.root, entries(store)[0].parent)} == {0o755}


def test_no_cache_writes_none(source: Path, make: Make, tmp_path: Path) -> None:
    make(source, tmp_path / "out", cache=False)
    assert list(cache_place().iterdir()) == []


def test_the_place_and_the_limit_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert configured_limit() == DEFAULT_LIMIT
    monkeypatch.setenv("SYSVM_BUNDLE_CACHE_MIB", "3")
    assert configured_limit() == 3 << 20
    monkeypatch.delenv("SYSVM_CACHE")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_place() == tmp_path / "sysvm-livepatch"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cache_place() == Path("/var/cache/sysvm-livepatch")


def test_an_impossible_limit_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSVM_BUNDLE_CACHE_MIB", "much")
    with pytest.raises(UsageError, match="invalid SYSVM_BUNDLE_CACHE_MIB 'much'"):
        configured_limit()
