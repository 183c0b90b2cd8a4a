"""Whatever the cloud and the limits are: never two units on one host, never outside the window, never twice."""

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.errors import UsageError
from harness.rollout.clock import seconds_of, window_of
from harness.rollout.journal import Settings
from harness.rollout.order import RolloutLimits, estimate
from harness.rollout.units import KINDS
from tests.unit.harness.rollout import playing
from tests.unit.harness.rollout.stand_in import Cloud, large, small

SHORT = Settings(job_timeout=3600.0, settle=10.0, soak=0.0, health=False)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")


@st.composite
def windows(draw):
    start, length = draw(st.integers(0, 1439)), draw(st.integers(30, 1400))
    end = (start + length) % 1440
    text = f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
    return window_of(text, draw(st.sampled_from(ZONES)))


# Days on which clocks are changed are among them.
MOMENTS = st.datetimes(datetime(2026, 3, 1), datetime(2026, 11, 30)).map(lambda at: at.replace(tzinfo=UTC))


@given(
    routers=st.integers(1, 25),
    hosts=st.integers(2, 12),
    seed=st.integers(0, 10**6),
    at_once=st.integers(1, 6),
    pause=st.sampled_from([0.0, 10.0, 400.0]),
    window=st.none() | windows(),
    start=MOMENTS,
    moving=st.booleans(),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_limit_is_ever_broken(tmp_path, routers, hosts, seed, at_once, pause, window, start, moving):
    cloud = large(Cloud(), routers, hosts, seed)
    cloud.clock.time = start
    limits = RolloutLimits(at_once=at_once, pause=pause, window=window)
    made = playing.plan(cloud, limits)
    if moving:
        # VMs migrate between plan and run: what counts is where they are when they are patched.
        for number, row in enumerate(cloud.vms.values()):
            row["hostid"] = f"h{number % hosts}"
    path = tmp_path / "events.jsonl"
    path.unlink(missing_ok=True)
    result = playing.run(cloud, path, limits, settings=SHORT, made=made)
    assert result.verdict == "passed", result
    assert cloud.violations == []
    assert set(cloud.patched.values()) <= {1}
    assert set(cloud.patched) == {row.unit.id for row in made.order}
    if window is not None:
        assert [at for at, _ in cloud.starts if not window.is_open(at)] == []
        late = [at for at, unit in cloud.starts if window.left(at) < made.row(unit).seconds]
        assert late == []
    stages = {row.unit.id: row.stage for row in made.order}
    assert [stages[unit] for _, unit in cloud.starts] == sorted(stages[unit] for _, unit in cloud.starts)


@given(window=windows(), at=MOMENTS)
@settings(max_examples=300)
def test_a_window_closes_and_opens_when_it_says(window, at):
    if window.is_open(at):
        left = window.left(at)
        assert left > 0
        assert all(window.is_open(at + timedelta(seconds=left * part / 50)) for part in range(50))
        assert not window.is_open(at + timedelta(seconds=left))
    else:
        wait = window.wait(at)
        assert wait > 0
        assert not any(window.is_open(at + timedelta(seconds=wait * part / 50)) for part in range(50))
        assert window.is_open(at + timedelta(seconds=wait))


@pytest.fixture
def berlin_here(monkeypatch):
    """Let this machine be in Berlin."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin_here")
def test_without_a_time_zone_the_machine_s_own_counts():
    here, named = window_of("22:00-02:30"), window_of("22:00-02:30", "Europe/Berlin")
    months = (datetime(2026, month, 1, tzinfo=UTC) for month in (3, 10))
    moments = [month + timedelta(hours=hours) for month in months for hours in range(744)]
    assert [here.is_open(at) for at in moments] == [named.is_open(at) for at in moments]
    assert [here.wait(at) for at in moments] == [named.wait(at) for at in moments]


def test_a_time_of_day_that_comes_twice_or_not_at_all_is_no_trouble():
    berlin = ZoneInfo("Europe/Berlin")
    window = window_of("22:00-02:30", "Europe/Berlin")
    autumn = datetime(2026, 10, 25, 2, 15, tzinfo=berlin, fold=1)
    assert window.is_open(autumn)
    assert window.left(autumn) == 15 * 60
    spring = datetime(2026, 3, 29, 1, 59, tzinfo=berlin)
    assert window.left(spring) == 60


@pytest.mark.parametrize("said", ["22-05", "22:00", "24:00-05:00", "22:00-22:00", "22:00-05:60", ""])
def test_a_window_that_cannot_be_meant_is_refused(said):
    with pytest.raises(UsageError, match="window"):
        window_of(said)


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(UsageError, match="unknown time zone"):
        window_of("22:00-05:00", "Europe/Atlantis")


@pytest.mark.parametrize(("said", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1.5h", 5400)])
def test_lengths_of_time_have_units(said, seconds):
    assert seconds_of(said) == seconds


@pytest.mark.parametrize("said", ["", "m", "-5", "5 m", "1d", "١m"])
def test_a_length_of_time_that_cannot_be_meant_is_refused(said):
    with pytest.raises(UsageError, match="length of time"):
        seconds_of(said)


def test_a_unit_longer_than_the_window_is_blocked_and_said():
    cloud = Cloud()
    ids = small(cloud)
    made = playing.plan(cloud, RolloutLimits(window=window_of("22:00-22:02", "UTC")))
    assert made.row(ids["shop"]).judged.standing == "blocked"
    assert "longer than the window" in made.row(ids["shop"]).judged.blocks[0]
    assert ids["web"] in {row.unit.id for row in made.order}


def test_the_estimate_counts_pauses_and_closed_hours():
    cloud = Cloud()
    small(cloud)
    made = playing.plan(cloud)
    work = sum(row.seconds for row in made.order)
    assert made.seconds == work
    assert estimate(made.order, RolloutLimits(pause=60.0), cloud.clock.now()) == work + 6 * 60
    window = window_of("22:00-22:10", "UTC")
    assert estimate(made.order, RolloutLimits(window=window), cloud.clock.now()) > 86400


def test_system_vms_of_one_zone_are_never_patched_at_once(tmp_path):
    cloud = Cloud()
    cloud.zones = {"z1": "Z1", "z2": "Z2"}
    for zone in cloud.zones:
        for number in range(4):
            cloud.system_vm(f"v-{zone}-{number}-VM", "consoleproxy", f"{zone}-h{number}", zone)
    playing.run(cloud, tmp_path / "events.jsonl", RolloutLimits(at_once=8), settings=SHORT)
    for zone in cloud.zones:
        times = [at for at, unit in cloud.starts if cloud.vms[unit]["zoneid"] == zone]
        assert len(times) == 4
        assert all(later - earlier >= timedelta(seconds=cloud.seconds) for earlier, later in pairwise(times))
    assert len({at for at, _ in cloud.starts}) < 8  # the zones do not wait for each other


def test_the_order_of_kinds_is_the_documented_one():
    assert KINDS == ("system VM", "network", "redundant network", "VPC", "shared network")
