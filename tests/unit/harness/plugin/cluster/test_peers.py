"""Golden snapshots between hosts: whole and compared, or not at all."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from distributed.utils import LoopRunner

from bundle.errors import CheckFailed, InfrastructureError
from harness.host import cache
from harness.host.cache import GOLDEN
from harness.lab.golden_maker import host_parts
from harness.machine import accel
from harness.plugin.cluster.peers import READ, OwnDepot, fetch
from tests.unit.harness.vm.depot.samples import SNAPSHOT, be_a_host, contents, flip, make_golden, make_image

OTHER = "e" * 24


@pytest.fixture
def loop():
    runner = LoopRunner(asynchronous=False)
    runner.start()
    yield runner.loop
    runner.stop()


@pytest.fixture
def go_to(tmp_path, monkeypatch):
    """Return what changes to another host: its cache is another one."""
    be_a_host(monkeypatch, tmp_path / "state")

    def go(name):
        monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / name))

    return go


@pytest.fixture
def worker(tmp_path, loop, go_to):
    """Host ``two``, for which host ``one`` reads of its depot whatever it is asked for."""
    go_to("one")
    here = host_parts(SimpleNamespace(version=lambda: "7002000"), accel.TCG, "shared-ram")
    image = make_image(mib=0)
    make_golden(image, here=here, size=9000)
    make_golden(image, OTHER, here={**here, "qemu": "9002000"}, seed=7, size=9000)
    depot = OwnDepot(tmp_path / "depot")

    async def read(name, key):
        go_to("one")
        try:
            return await depot.read(name, key)
        finally:
            go_to("two")

    go_to("two")
    return SimpleNamespace(loop=loop, rpc=lambda address: SimpleNamespace(**{READ: read}))


def test_a_host_has_the_snapshot_of_another_one(tmp_path, worker, go_to):
    assert "is fetched from tls://one" in fetch(worker, "tls://one", SNAPSHOT)
    assert "is there already" in fetch(worker, "tls://one", SNAPSHOT)
    theirs = contents(cache.entry(GOLDEN, SNAPSHOT))
    go_to("one")
    own = contents(cache.entry(GOLDEN, SNAPSHOT))
    same = {name for name in own if not name.endswith((".overlay", ".qcow2", "golden.json"))}
    assert same
    assert {name: theirs[name] for name in same} == {name: own[name] for name in same}


def test_a_snapshot_that_is_of_no_use_is_not_fetched(worker):
    assert "is of no use here: QEMU's version is '9002000' there" in fetch(worker, "tls://one", OTHER)
    assert not cache.entry(GOLDEN, OTHER).exists()


def test_a_damaged_snapshot_is_not_given(worker, go_to):
    go_to("one")
    flip(next(cache.entry(GOLDEN, SNAPSHOT).glob("*.ram")), 100, keep_time=False)
    go_to("two")
    with pytest.raises(InfrastructureError, match="is damaged"):
        fetch(worker, "tls://one", SNAPSHOT)
    assert not cache.entry(GOLDEN, SNAPSHOT).exists()


def test_what_the_other_host_has_not_is_told(worker):
    with pytest.raises(InfrastructureError, match="damaged, or lacks its image"):
        fetch(worker, "tls://one", "d" * 24)


@pytest.mark.parametrize(
    ("name", "key"), [("../secret", SNAPSHOT), ("/etc/passwd", SNAPSHOT), ("index.json", "../../x")]
)
def test_no_name_leads_out_of_a_hosts_depot(tmp_path, worker, go_to, name, key):
    go_to("one")
    (tmp_path / "secret").write_text("secret")
    answer = asyncio.run(OwnDepot(tmp_path / "depot").read(name, key))
    assert "no name of a depot" in answer["problem"]
    assert "data" not in answer


def test_a_host_that_is_gone_does_not_answer(loop, go_to):
    async def read(name, key):
        raise OSError("gone")

    go_to("two")
    gone = SimpleNamespace(loop=loop, rpc=lambda address: SimpleNamespace(**{READ: read}))
    with pytest.raises((InfrastructureError, CheckFailed), match="does not answer"):
        fetch(gone, "tls://one", SNAPSHOT)
