"""A depot takes what the cache has and gives it to another host: whole, checked, and only what is of use there."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bundle.errors import CheckFailed, InfrastructureError, UsageError
from harness.host import cache, locks, wait
from harness.image import images
from harness.vm import golden
from harness.vm.depot import places
from harness.vm.depot import pull as pulling
from harness.vm.depot.pull import Receiver, differences, misfit
from harness.vm.depot.push import Sender
from tests.fuzzing import EXAMPLES
from tests.unit.harness.vm.depot.samples import (
    HERE,
    IMAGE,
    MIB,
    SNAPSHOT,
    backing,
    contents,
    flip,
    make_golden,
    make_image,
    qcow2,
)

ROOT = Path(__file__).parents[5]
# Faults of each kind, each from its seed; 'nox -s fuzz -- depot N' tries more.
FAULTS = int(os.environ.get(EXAMPLES, "4"))
ME = (os.geteuid(), os.getegid())


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """Return what goes to one of two hosts, by the name of its cache."""
    monkeypatch.setattr(pulling, "_PAUSE", 0.0)

    def go_to(name):
        monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / name))
        return tmp_path / name

    return go_to


@pytest.fixture
def depot(tmp_path, hosts):
    """Return a depot that one host has filled with a snapshot and its image; we are at the other host."""
    hosts("one")
    make_golden(make_image())
    depot = places.find(str(tmp_path / "depot"))
    Sender(depot).golden(SNAPSHOT)
    hosts("two")
    return depot


def fetch(depot):
    """Fetch the snapshot with its image; returns how many bytes came."""
    receiver = Receiver(depot, ME)
    entry = depot.entry("golden", SNAPSHOT)
    assert misfit(receiver, entry, lambda image: HERE if image else {"qemu": HERE["qemu"]}) == []
    receiver.golden(entry)
    return receiver.fetched


def test_another_host_has_the_same_files_on_its_own_image(tmp_path, depot):
    fetch(depot)
    for kind, key in (("images", IMAGE), ("golden", SNAPSHOT)):
        assert contents(tmp_path / "two" / kind / key) == contents(tmp_path / "one" / kind / key)
    folder = tmp_path / "two" / "golden" / SNAPSHOT
    assert backing(folder / "system.qcow2") == str(tmp_path / "two" / "images" / IMAGE / "disk.qcow2")
    assert backing(folder / "system.overlay") == str(folder / "system.qcow2")
    found = golden.get(SNAPSHOT, lambda _: pytest.fail("it is made again"))
    assert found.facts["release"] == "4.21"
    assert found.facts["needs"][0].startswith(str(tmp_path / "two"))
    assert not list((tmp_path / "two" / "incoming").iterdir())


def test_a_hole_stays_a_hole_and_costs_nothing_on_the_way(tmp_path, depot):
    assert fetch(depot) < 10 * MIB  # 5 of the disk and 3 of the RAM cannot be packed
    ram = tmp_path / "two" / "golden" / SNAPSHOT / "system.ram"
    assert ram.stat().st_size == 64 * MIB
    assert ram.stat().st_blocks * 512 <= 4 * MIB


def test_what_is_there_is_neither_sent_nor_fetched_again(tmp_path, depot, hosts):
    fetch(depot)
    assert fetch(depot) == 0
    hosts("one")
    sender = Sender(depot)
    sender.golden(SNAPSHOT)
    assert sender.sent == 0
    again = Sender(depot, again=True)
    again.golden(SNAPSHOT)
    assert again.sent > 7 * MIB


def test_only_its_owner_may_look_into_a_new_depot(tmp_path, depot):
    assert (tmp_path / "depot").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["system.ram", "system.state", "system.qcow2", "id_ecdsa"])
def test_a_flipped_bit_is_found_after_a_start_of_the_host(tmp_path, hosts, monkeypatch, name):
    hosts("one")
    folder = make_golden(make_image())
    flip(folder / name, 5 if name == "id_ecdsa" else 50_000)
    assert golden.get(SNAPSHOT, lambda _: {}).facts["release"] == "4.21"  # read once a start, not at each use
    boot = tmp_path / "boot_id"
    boot.write_text("another\n")
    monkeypatch.setattr(golden, "BOOT_ID", boot)
    assert golden.get(SNAPSHOT, lambda _: {"made": "again"}).facts == {"made": "again"}


def test_a_whole_snapshot_is_read_once_a_start_of_the_host(tmp_path, hosts, monkeypatch):
    hosts("one")
    make_golden(make_image())
    boot, read = tmp_path / "boot_id", []
    boot.write_text("another\n")
    monkeypatch.setattr(golden, "BOOT_ID", boot)
    plain = golden.chunks.file_digest
    monkeypatch.setattr(golden.chunks, "file_digest", lambda path: read.append(path.name) or plain(path))
    for _ in range(3):
        assert golden.get(SNAPSHOT, lambda _: pytest.fail("it is made again")).facts["type"] == "router"
    assert len(read) == len(set(read)) == 5


@pytest.mark.parametrize("name", ["system.ram", "system.state", "system.qcow2", "id_ecdsa"])
def test_a_bit_that_flipped_on_the_way_to_the_disk_is_found_at_the_first_use(tmp_path, depot, name):
    fetch(depot)
    flip(tmp_path / "two" / "golden" / SNAPSHOT / name, 5 if name == "id_ecdsa" else 50_000)
    assert golden.get(SNAPSHOT, lambda _: {"made": "again"}).facts == {"made": "again"}


def test_a_damaged_snapshot_is_not_sent(tmp_path, hosts, monkeypatch):
    hosts("one")
    folder = make_golden(make_image())
    flip(folder / "system.ram", 17 * MIB + 9)
    depot = places.find(str(tmp_path / "depot"))
    with pytest.raises(CheckFailed, match=r"system\.ram .* has changed"):
        Sender(depot).golden(SNAPSHOT)
    flip(tmp_path / "one" / "images" / IMAGE / "disk.qcow2", MIB)
    with pytest.raises(CheckFailed, match=r"disk of image .* is damaged"):
        Sender(depot).image(IMAGE)
    assert depot.keys()["golden"] == []


def objects(tmp_path):
    return sorted((tmp_path / "depot" / "objects").rglob("*.zst"))


def damages(random_bits):
    """Return ways in which a depot's disk or the way from there spoils a file."""

    def cut(path):
        os.truncate(path, random_bits.randrange(path.stat().st_size))

    def turn(path):
        flip(path, random_bits.randrange(path.stat().st_size))

    def lose(path):
        path.unlink()

    def exchange(path):
        shutil.copyfile(random_bits.choice(sorted(path.parent.parent.rglob("*.zst"))), path)

    def grow(path):
        path.write_bytes(path.read_bytes() * 2)

    return (cut, turn, lose, exchange, grow)


@pytest.mark.parametrize("seed", range(FAULTS))
def test_a_damaged_chunk_is_never_used(tmp_path, depot, hosts, seed):
    """Either the damage does not touch the content, or it is told by the chunk's name, and sending again mends it."""
    draw = random.Random(seed)
    victim = draw.choice(objects(tmp_path))
    whole = victim.read_bytes()
    draw.choice(damages(draw))(victim)
    told = ""
    try:
        fetch(depot)
    except CheckFailed as error:
        told = str(error)
    if victim.exists() and victim.read_bytes() == whole:
        assert told == ""
    elif told:
        assert victim.stem in told
        assert not (tmp_path / "two" / "golden" / SNAPSHOT).exists()
        hosts("one")
        Sender(depot, again=True).golden(SNAPSHOT)
        hosts("two")
        fetch(depot)
    for kind, key in (("images", IMAGE), ("golden", SNAPSHOT)):
        assert contents(tmp_path / "two" / kind / key) == contents(tmp_path / "one" / kind / key)


@pytest.mark.parametrize("seed", range(FAULTS))
def test_a_damaged_manifest_is_told(tmp_path, depot, seed):
    draw = random.Random(seed)
    (path,) = (tmp_path / "depot" / draw.choice(("golden", "images"))).glob("*.json")
    damages(draw)[draw.randrange(2)](path)
    with pytest.raises((CheckFailed, places.NotThere)):
        fetch(depot)
    assert not (tmp_path / "two" / "golden" / SNAPSHOT).exists()


PROGRAM = """
    import os, sys, time
    from harness.vm.depot import places
    from harness.vm.depot.pull import Receiver, misfit
    from harness.vm.depot.push import Sender
    word, where, key = sys.argv[1:]
    slow = places.FolderPlace.{slow}
    def slowly(self, *given):
        time.sleep(0.02)
        return slow(self, *given)
    places.FolderPlace.{slow} = slowly
    depot = places.find(where)
    print("go", flush=True)
    if word == "push":
        Sender(depot).golden(key)
    else:
        receiver = Receiver(depot, (os.geteuid(), os.getegid()))
        entry = depot.entry("golden", key)
        misfit(receiver, entry, lambda image: {{}})
        receiver.golden(entry)
"""


def killed(word, where, seconds, target):
    """Run a transfer in another process, kill it so many seconds after a chunk is there, and say whether it was."""
    slow = "write" if word == "push" else "read"
    program = textwrap.dedent(PROGRAM.format(slow=slow))
    with subprocess.Popen(
        [sys.executable, "-c", program, word, where, SNAPSHOT], stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        process.stdout.readline()
        wait.until(
            lambda: any(target.rglob("*.zst")) or process.poll() is not None, "a chunk", 60.0, tick=0.02
        )
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    return process.returncode == -signal.SIGKILL


def test_killed_transfers_go_on_and_nobody_sees_half(tmp_path, hosts):
    draw = random.Random(23)
    hosts("one")
    make_golden(make_image())
    where = str(tmp_path / "depot")
    kills = sum(killed("push", where, draw.uniform(0.05, 0.3), tmp_path / "depot") for _ in range(2))
    depot = places.find(where)
    sender = Sender(depot)
    sender.golden(SNAPSHOT)
    assert kills == 0 or sender.spared > 0
    hosts("two")
    kills = sum(killed("pull", where, draw.uniform(0.05, 0.3), tmp_path / "two") for _ in range(2))
    for kind in ("images", "golden"):
        for folder in cache.entries(kind):
            if kind == "images" or (folder / "golden.json").exists():
                assert contents(folder) == contents(tmp_path / "one" / kind / folder.name)
    kept = sum(path.stat().st_size for path in (tmp_path / "two" / "incoming").rglob("*.zst"))
    rest = fetch(depot)
    total = sum(path.stat().st_size for path in objects(tmp_path))
    assert rest <= total - kept
    assert kills == 0 or rest < total
    assert contents(tmp_path / "two/golden" / SNAPSHOT) == contents(tmp_path / "one/golden" / SNAPSHOT)


class Web(SimpleHTTPRequestHandler):
    """A server that breaks off every third answer of a chunk."""

    asked = 0

    def log_message(self, *_):
        pass

    def copyfile(self, source, outputfile):
        Web.asked += 1
        data = source.read()
        outputfile.write(data[: len(data) // 2] if Web.asked % 3 == 0 and len(data) > 100_000 else data)


@pytest.fixture
def web(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Web, directory=str(tmp_path / "depot")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_a_depot_is_read_over_http_whose_answers_break_off(tmp_path, depot, web):
    there = places.find(web)
    assert there.keys() == {"images": [IMAGE], "golden": [SNAPSHOT]}
    fetch(there)
    assert contents(tmp_path / "two/golden" / SNAPSHOT) == contents(tmp_path / "one/golden" / SNAPSHOT)
    with pytest.raises(places.NotThere):
        there.entry("golden", "0" * 24)
    with pytest.raises(UsageError, match="nothing can be sent"):
        Sender(there, again=True).golden(SNAPSHOT)
    (tmp_path / "depot" / "index.json").unlink()
    with pytest.raises(UsageError, match=r"no depot: it has no index\.json"):
        there.keys()


def test_a_server_that_is_gone_is_one_line():
    with pytest.raises(InfrastructureError, match="cannot be read"):
        places.find("http://127.0.0.1:1/depot").keys()


@pytest.mark.parametrize("address", ["ftp://a/b", "ssh://host", "http:///x", "file:///tmp", "ssh://h:x/y"])
def test_an_address_that_is_none_is_told(address):
    with pytest.raises(UsageError, match=r"no place of a depot|has no port"):
        places.find(address)


def test_two_who_push_at_once_are_both_in_the_index(tmp_path, hosts):
    hosts("one")
    image = make_image()
    other = "a" * 24
    make_golden(image)
    make_golden(image, other, seed=5)
    where = str(tmp_path / "depot")
    threads = [
        threading.Thread(target=Sender(places.find(where)).golden, args=(key,)) for key in (SNAPSHOT, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    index = json.loads((tmp_path / "depot" / "index.json").read_text())
    assert index == {"images": [IMAGE], "golden": sorted([SNAPSHOT, other])}


def test_a_snapshot_of_another_host_is_not_fetched_and_the_reason_is_told(tmp_path, depot):
    receiver = Receiver(depot, ME)
    entry = depot.entry("golden", SNAPSHOT)
    told = misfit(receiver, entry, lambda _: {"qemu": "9002000", "maker": "m1"})
    assert told == ["QEMU's version is '7002000' there and '9002000' here"]
    assert not (tmp_path / "two" / "images").exists()
    kvm = {**HERE, "accelerator": "kvm", "processor": "Xeon, flags 1"}
    told = misfit(receiver, entry, lambda image: kvm if image else {"qemu": HERE["qemu"]})
    assert [line.split(" is ")[0] for line in told] == ["the accelerator", "the processor"]


def test_the_nearest_snapshot_is_the_one_that_differs_least(depot):
    there = [depot.entry("golden", SNAPSHOT)]
    entry, told = pulling.nearest({**there[0].ingredients, "bundle": "b2"}, there)
    assert (entry.key, told) == (
        SNAPSHOT,
        ["the bundle that it was booted with is 'not told' there and 'b2' here"],
    )
    assert pulling.nearest({}, []) is None
    assert differences({"a": "1"}, {"a": "1"}) == []


def test_an_image_of_the_same_key_and_other_content_is_no_ground_for_a_snapshot(depot):
    make_image(seed=99)
    with pytest.raises(CheckFailed, match="stands on another image"):
        Receiver(depot, ME).golden(depot.entry("golden", SNAPSHOT))


def test_an_image_that_points_to_files_of_the_host_is_refused(tmp_path, hosts):
    hosts("one")

    def fill(folder):
        secret = tmp_path / "secret.qcow2"
        qcow2(secret)
        qcow2(folder / "disk.qcow2", "-F", "qcow2", "-b", str(secret))
        shutil.copy(make_image(key="b" * 32) / "image.json", folder)
        facts = json.loads((folder / "image.json").read_text())
        digest = pulling.file_digest(folder / "disk.qcow2", "sha256")
        (folder / "image.json").write_text(json.dumps({**facts, "digest": digest}))

    cache.obtain(images.KIND, IMAGE, fill)
    depot = places.find(str(tmp_path / "depot"))
    Sender(depot).image(IMAGE)
    hosts("two")
    with pytest.raises(CheckFailed, match="refers to another file"):
        Receiver(depot, ME).image(IMAGE)
    assert cache.entries("images") == []


def test_a_full_disk_is_told_before_anything_is_fetched(depot, monkeypatch):
    monkeypatch.setattr(pulling.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, MIB))
    with pytest.raises(InfrastructureError, match="MiB free"):
        fetch(depot)


def test_what_an_interrupted_fetching_left_goes_with_time(tmp_path, hosts):
    folder = hosts("two") / "incoming" / f"golden-{SNAPSHOT}"
    folder.mkdir(parents=True)
    assert pulling.collect_incoming(1) == []
    os.utime(folder, (0, 0))
    with locks.exclusive(folder.parents[1] / "golden" / f"{SNAPSHOT}.lock"):
        assert pulling.collect_incoming(1) == []
    assert pulling.collect_incoming(1) == [folder]
    assert not folder.exists()
