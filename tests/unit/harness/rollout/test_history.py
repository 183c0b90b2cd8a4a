"""Expectations rest on what was measured: units of earlier rollouts, gaps of earlier tests."""

from harness.record.events import EventLog
from harness.rollout import render
from harness.rollout.api import Api
from harness.rollout.history import ASSUMED, measured
from harness.rollout.order import RolloutLimits
from harness.rollout.plan import Choice, Planner
from harness.rollout.survey import survey
from harness.rollout.target import RolloutTarget
from tests.unit.harness.rollout import playing
from tests.unit.harness.rollout.stand_in import NEW, RELEASE, Cloud, Wire, small


def judged(folder, vm_type, gap_ms, to="4.22", verdict="passed"):
    folder.mkdir(parents=True)
    with EventLog(folder / "events.jsonl") as log:
        log.emit("scenario_started", scenario="a", **{"type": vm_type, "from": "4.21", "to": to})
        numbers = {"started": 0.0, "ended": 9.0, "sent": 9, "lost": 0, "longest_gap_ms": gap_ms}
        log.emit("probe", scenario="a", name="http", **numbers)
        log.emit("scenario_finished", scenario="a", verdict=verdict)
        log.emit("run_finished", verdict=verdict)


def rolled(folder, cloud):
    folder.mkdir(parents=True)
    assert playing.run(cloud, folder / "events.jsonl").verdict == "passed"


def test_nothing_measured_is_said(tmp_path):
    found = measured(tmp_path, RELEASE)
    assert found.sources == (0, 0)
    assert found.cost("VPC", 2) == 2 * ASSUMED


def test_units_and_gaps_of_earlier_runs_count(tmp_path):
    judged(tmp_path / "1", "router", 700.0)
    judged(tmp_path / "2", "router", 2100.0)
    judged(tmp_path / "3", "router", 9000.0, to="4.20")
    judged(tmp_path / "4", "router", 9000.0, verdict="failed")
    earlier = Cloud(seconds=40.0)
    small(earlier)
    rolled(tmp_path / "5", earlier)
    (tmp_path / "6").mkdir()
    (tmp_path / "6" / "events.jsonl").write_text("not a log\n")
    found = measured(tmp_path, RELEASE)
    assert found.gaps == {"router": 2100.0}
    assert found.sources == (6, 2)
    assert 35 < found.seconds["network"] < 60


def test_a_plan_tells_what_is_renewed_and_for_how_long_it_was_away(tmp_path):
    judged(tmp_path / "1", "router", 2100.0)
    cloud = Cloud()
    ids = small(cloud)
    renewals = (("haproxy", "restart", ("router", "vpcrouter")), ("apache2", "reload", ("router",)))
    target = RolloutTarget(RELEASE, (NEW,), "ours", renewals, "a with b")
    planner = Planner(Choice(), RolloutLimits(), measured(tmp_path, RELEASE), playing.API, cloud.clock.now())
    made = planner.plan(survey(Api(Wire(cloud), cloud.clock)), target)
    assert render.gap(made.row(ids["web"])) == "restart haproxy; reload apache2, up to 2.1 s in tests"
    assert render.gap(made.row(ids["shop"])) == "restart haproxy"
    assert render.gap(made.row(ids["cpvm"])) == "unknown"
    assert "| haproxy | restart |" in render.markdown(made)
