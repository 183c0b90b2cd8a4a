"""A rollout through real HTTP with the real ``cs``, against the served API: sound, and with CloudStack's own faults."""

import threading
from dataclasses import dataclass, field

import pytest

from bundle.errors import InfrastructureError
from harness.management.api import ApiLimits
from harness.management.faithful import FaithfulServer
from harness.record.events import read
from harness.report import build
from harness.rollout.access import Access
from harness.rollout.clock import WallClock
from harness.rollout.order import RolloutLimits
from harness.rollout.target import RolloutTarget
from harness.rollout.transport import Rejected
from harness.rollout.wire import CsTransport
from tests.unit.harness.apiworld import World
from tests.unit.harness.management.api.conftest import inhabited
from tests.unit.harness.rollout import playing
from tests.unit.harness.simulator import NEW

QUICK = playing.Settings(job_timeout=3.0, grace=1.0, settle=1.0, soak=0.3)


@dataclass
class Served:
    """What the helpers know of a cloud: its clock."""

    clock: WallClock = field(default_factory=WallClock)


def filled(world):
    """Fill a world as the API's own tests do."""
    made = inhabited()
    world.cloud.inventory.add(*made.cloud.inventory.vms.values())
    world.cloud.inventory.add(*made.cloud.inventory.networks.values(), *made.cloud.inventory.vpcs.values())
    world.cloud.guests, world.cloud.timeline = made.cloud.guests, made.cloud.timeline
    return world


def wire(world, url, **account):
    who = world.service.accounts.named("admin")
    return CsTransport(Access(url, **(account or {"key": who.api_key, "secret": who.secret})))


def roll(world, url, path, **more):
    transport = more.pop("wire", None) or wire(world, url)
    served = Served()
    limits = more.pop("limits", RolloutLimits(max_failures=20, at_once=2))
    target = RolloutTarget(world.service.version, (NEW,), "ours")
    made = playing.plan(served, limits, wire=transport, target=target)
    return playing.run(served, path, limits, settings=QUICK, wire=transport, made=made, **more), made


def failures(path):
    report = build(read(path))
    return {
        row.title.split(" (")[0]: row.reason for row in report.scenarios if row.verdict in {"failed", "error"}
    }


def patches(world):
    return sorted(name for name, what in world.cloud.timeline if what == "patch")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


ALL = ["b-7-VM", "r-3-VM", "r-4-VM", "r-5-VM", "r-6-VM", "s-2-VM", "v-1-VM"]


def test_a_sound_server_is_rolled_out_once(path):
    world = inhabited()
    with world.served() as url:
        result, made = roll(world, url, path)
        assert result.verdict == "passed", failures(path)
        assert patches(world) == ALL
        assert [row.unit.kind for row in made.rows] == [
            "system VM", "system VM", "network", "redundant network", "VPC",
        ]  # fmt: skip
        assert playing.plan(Served(), wire=wire(world, url), target=made.target).order == ()
    assert set(playing.verdicts(path).values()) == {"passed"}


def test_cloudstack_s_own_faults_are_planned_for(path):
    world = filled(World(FaithfulServer))
    with world.served() as url:
        result, made = roll(world, url, path)
    assert result.verdict == "passed", failures(path)
    assert patches(world) == ["r-3-VM", "r-4-VM", "r-5-VM", "r-6-VM", "r-6-VM", "s-2-VM", "v-1-VM"]
    shop = next(row for row in made.rows if row.unit.name == "shop")
    assert any("2 times in a row" in text for text in shop.judged.warnings)
    assert any("b-7-VM" in text for text in shop.judged.warnings)


def test_every_lie_of_a_faithful_server_is_found(path):
    """The restart succeeds although the router failed; a pair ends with two primaries; an agent does not come back."""
    world = filled(World(FaithfulServer))
    guests = world.cloud.guests
    guests["r-3-VM"].fails = "haproxy is not active"
    guests["r-6-VM"].fails = "no space"
    guests["v-1-VM"].fails = "java is not active"
    guests["r-4-VM"].vrrp.split = True
    with world.served() as url:
        plan_wire = wire(world, url)
        guests["r-4-VM"].vrrp.split = False
        world.service.watch.look_at_all()
        served = Served()
        target = RolloutTarget(world.service.version, (NEW,), "ours")
        limits = RolloutLimits(max_failures=20)
        made = playing.plan(served, limits, wire=plan_wire, target=target)

        def split(line):
            if line.startswith("redundant network") and "restartNetwork" in line:
                guests["r-4-VM"].vrrp.split = True

        result = playing.run(served, path, limits, settings=QUICK, wire=plan_wire, made=made, say=split)
    assert result.verdict == "failed"
    found = failures(path)
    assert found["network web"].startswith("rollout.scripts: r-3-VM: scripts still 111111111111")
    assert found["VPC shop"].startswith("rollout.scripts: r-6-VM: scripts still")
    assert found["system VM v-1-VM"].startswith("its job has failed")
    assert (
        found["redundant network paired"]
        == "rollout.roles: not one PRIMARY and one BACKUP: r-4-VM PRIMARY, r-5-VM PRIMARY"
    )
    assert len(found) == 4


def test_a_version_that_was_never_installed_is_found(path):
    """The script says that it has installed the version, the job succeeds, and the router has what it had."""
    world = filled(World(FaithfulServer))
    world.cloud.guests["r-3-VM"].lies = True
    with world.served() as url:
        result, _ = roll(world, url, path)
    assert result.verdict == "failed"
    assert list(failures(path)) == ["network web"]
    assert failures(path)["network web"].startswith("rollout.scripts: r-3-VM: scripts still 111111111111")


def test_a_version_that_the_server_only_believes_in_is_found_by_the_router_s_own_check(path):
    """The server's list has the new digest; the router's check, which compares it with what runs, does not hold."""
    world = filled(World(FaithfulServer, faithful="4.22"))
    world.cloud.guests["r-3-VM"].lies = True
    with world.served() as url:
        result, _ = roll(world, url, path)
        row = world.client(url, "admin").listRouters(listall=True, name="r-3-VM")["router"][0]
    assert row["scriptsversion"] == NEW
    assert result.verdict == "failed"
    assert failures(path) == {"network web": "rollout.health: r-3-VM: router_version_check.py"}


def test_a_job_that_never_ends_is_given_up_and_followed_later(path):
    world = inhabited()
    gate = threading.Event()
    world.cloud.guests["r-3-VM"].waits_for = gate
    with world.served() as url:
        try:
            result, _ = roll(world, url, path, limits=RolloutLimits())
            assert result.verdict == "failed"
            assert "has not ended within" in failures(path)["network web"]
        finally:
            gate.set()
        result = playing.resume(Served(), path, RolloutLimits(max_failures=20), wire=wire(world, url))
        assert result.verdict == "passed", failures(path)
    assert patches(world) == ALL


def test_a_session_that_ends_is_opened_anew(path):
    world = filled(World())
    password = world.service.accounts.named("admin").password

    class Forgetful(CsTransport):
        """A way to a server that ends the session after every few calls."""

        calls = opened = 0

        def send(self, command, parameters, timeout):
            self.calls += 1
            if not self.calls % 5:
                world.service.sessions._sessions.clear()
            return super().send(command, parameters, timeout)

        def renew(self):
            self.opened += 1
            return super().renew()

    with world.served() as url:
        transport = Forgetful(Access(url, user="admin", password=password))
        result, _ = roll(world, url, path, wire=transport)
    assert result.verdict == "passed", failures(path)
    assert transport.opened > 10
    assert patches(world) == ALL
    assert password not in path.read_text()


def test_a_server_that_slows_its_clients_down_is_waited_for(path):
    world = filled(World(limits=ApiLimits(calls=15, calls_window=0.5)))
    with world.served() as url:
        result, _ = roll(world, url, path)
    assert result.verdict == "passed", failures(path)
    assert patches(world) == ALL


def test_a_server_that_demands_post_and_time_stamps_is_obeyed(path):
    world = filled(World(limits=ApiLimits(enforce_post=True)))
    who = world.service.accounts.named("admin")
    with world.served() as url:
        access = Access(url, {"method": "post"}, key=who.api_key, secret=who.secret)
        result, _ = roll(world, url, path, wire=CsTransport(access))
    assert result.verdict == "passed", failures(path)
    assert patches(world) == ALL


@pytest.mark.parametrize("name", ["operator", "user"])
def test_only_root_can_roll_out(path, name):
    world = inhabited()
    who = world.service.accounts.named(name)
    with world.served() as url:
        transport = CsTransport(Access(url, key=who.api_key, secret=who.secret))
        if name == "user":
            with pytest.raises(Exception, match="may not call listRouters"):
                playing.plan(Served(), wire=transport)
        else:
            made = playing.plan(Served(), wire=transport)
            assert {row.unit.kind for row in made.rows} & {"network", "VPC"}
            assert any("may not call listSystemVms" in text for text in made.warnings)


def test_a_wrong_password_and_wrong_keys_are_said_without_them():
    world = inhabited()
    with world.served() as url:
        for access in (
            Access(url, user="admin", password="guess-of-a-test"),
            Access(url, key="kk-test", secret="ss-test"),
        ):
            with pytest.raises((Rejected, InfrastructureError)) as caught:
                playing.plan(Served(), wire=CsTransport(access))
            assert "guess-of-a-test" not in str(caught.value)
            assert "ss-test" not in str(caught.value)


def test_a_call_is_taken_once_under_its_id():
    """What a rollout rests on: the second call with the same ``customjobid`` is refused, and the job is found by it."""
    world = inhabited()
    job = "0b8f2f0c-6f4a-4a52-8a6f-0d1c7f0f6a11"
    with world.served() as url:
        transport = wire(world, url)
        network = world.client(url, "admin").listNetworks(listall=True, keyword="web")["network"][0]["id"]
        more = {"id": network, "livepatch": True, "customjobid": job}
        assert transport.send("restartNetwork", more, 60.0)["jobid"] == job
        with pytest.raises(Rejected, match=job):
            transport.send("restartNetwork", more, 60.0)
        assert transport.send("queryAsyncJobResult", {"jobid": job}, 60.0)["jobid"] == job
