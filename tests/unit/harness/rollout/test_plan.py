"""A plan says what is there, what is to be done, what hinders it, and what a person should know; it only reads."""

import json
import time

import pytest

from bundle.errors import InfrastructureError, UsageError
from harness.rollout import render
from harness.rollout.api import Api
from harness.rollout.order import RolloutLimits
from harness.rollout.plan import Choice
from harness.rollout.select import read_words
from harness.rollout.survey import survey
from harness.rollout.target import RolloutTarget, Wanted, find_target
from harness.rollout.transport import Busy, LostAnswer
from tests.unit.harness.rollout import playing
from tests.unit.harness.rollout.stand_in import NEW, OLD, RELEASE, Cloud, Wire, large, lose, small


@pytest.fixture
def cloud():
    return Cloud()


def block_of(made, unit_id):
    row = made.row(unit_id)
    assert row.judged.standing == "blocked", row
    return "; ".join(row.judged.blocks)


def test_two_thousand_routers_are_planned_in_under_ten_seconds_each_in_one_unit(cloud):
    large(cloud, 2000)
    began = time.monotonic()
    made = playing.plan(cloud, RolloutLimits(at_once=10))
    render.document(made), render.markdown(made), render.table(made)
    assert time.monotonic() - began < 10
    routers = [row["id"] for row in cloud.vms.values() if "role" in row]
    assert len(routers) == 2000
    members = [member.id for row in made.rows for member in row.unit.members]
    assert sorted(members) == sorted(cloud.vms)
    assert made.strays == ()
    assert not [call for call in cloud.calls if not call.startswith("list")]


def test_two_thousand_routers_are_patched_in_order_within_every_limit(cloud, tmp_path):
    large(cloud, 2000)
    limits = RolloutLimits(at_once=20, window=playing.window("22:00-05:00"))
    settings = playing.Settings(settle=10.0, soak=0.0, health=False)
    result = playing.run(cloud, tmp_path / "events.jsonl", limits, settings=settings)
    assert result.verdict == "passed"
    assert cloud.violations == []
    assert set(cloud.patched.values()) == {1}
    assert all(limits.window.is_open(at) for at, _ in cloud.starts)


def test_a_plan_reads_only_and_says_what_is_there(cloud):
    small(cloud)
    made = playing.plan(cloud)
    counts = made.cloud.counts
    assert (counts["routers"], counts["console proxies"], counts["VPCs"], counts["tiers"]) == (5, 1, 1, 2)
    assert (counts["projects"], counts["redundant routers"]) == (1, 2)
    assert all(call.startswith("list") for call in cloud.calls)


def test_what_is_installed_already_needs_nothing(cloud):
    ids = small(cloud)
    for row in cloud.vms.values():
        if row.get("guestnetworkid") == ids["web"]:
            row["scriptsversion"] = NEW
        if row["id"] == ids["cpvm"]:
            row["version"] = "4.22.0"
    made = playing.plan(cloud)
    assert {row.unit.id for row in made.those("current")} == {ids["web"], ids["cpvm"]}


def test_without_a_digest_the_release_decides(cloud):
    ids = small(cloud)
    for row in cloud.vms.values():
        if row.get("guestnetworkid") == ids["web"]:
            row["softwareversion"] = RELEASE
    made = playing.plan(cloud, target=RolloutTarget(RELEASE))
    assert {row.unit.id for row in made.those("current")} == {ids["web"]}
    assert any("no --scripts-digest" in text for text in made.warnings)


def test_canaries_are_the_smallest_of_each_kind_and_zone(cloud):
    large(cloud, 200)
    made = playing.plan(cloud)
    first = [row for row in made.order if row.stage == 0]
    keys = [(row.unit.kind, row.unit.zone, row.unit.members[0].kind) for row in first]
    assert len(keys) == len(set(keys))
    for row in first:
        same = [
            other.unit
            for other in made.order
            if (other.unit.kind, other.unit.zone) == (row.unit.kind, row.unit.zone)
        ]
        assert row.unit.patches == min(unit.patches for unit in same)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "Stopped"}, "is Stopped: a live patch passes it over"),
        ({"version": "4.13.1"}, "template 4.13.1"),
        ({"version": "4.99.0"}, "a live patch never leads back"),
        ({"version": "UNKNOWN"}, "the template of r-10-VM is of no known version; --accept-unknown"),
        ({"hypervisor": "Hyperv"}, "agents of Hyperv know no live patch"),
    ],
)
def test_what_cannot_be_patched_is_blocked_with_the_reason(cloud, change, said):
    ids = small(cloud)
    next(row for row in cloud.vms.values() if row["name"] == "r-10-VM").update(change)
    assert said in block_of(playing.plan(cloud), ids["web"])


def test_a_template_that_nothing_is_known_about_is_patched_only_when_a_person_says_so(cloud):
    ids = small(cloud)
    cloud.release = "4.23.0.0"
    target = RolloutTarget("4.23.0.0", (NEW,))
    assert "--accept-unknown" in block_of(playing.plan(cloud, target=target), ids["web"])
    made = playing.plan(cloud, target=target, choice=Choice(accept_unknown=True))
    assert made.row(ids["web"]).judged.standing == "patch"


def test_what_the_catalogue_says_of_other_types_of_vms_is_not_told(cloud):
    """Of a 4.17 template, frr is a router's concern, agent.properties a storage VM's, and vncport a console proxy's."""
    ids = small(cloud)
    for row in cloud.vms.values():
        row.update({"version": "4.17.2"} if "role" in row else {"templatename": "systemvm-kvm-4.17.2"})
    made = playing.plan(cloud)
    concerns = {"web": "no frr", "ssvm": "agent.properties", "cpvm": "no vncport"}
    for name, concern in concerns.items():
        told = " ".join(made.row(ids[name]).judged.warnings)
        assert [other for other in concerns.values() if other in told] == [concern]
        assert made.row(ids[name]).judged.verdicts == {"4.17.2": "caveat"}


@pytest.mark.parametrize("role", ["FAULT", "UNKNOWN", "PRIMARY", ""])
def test_a_pair_that_is_not_well_is_blocked(cloud, role):
    ids = small(cloud)
    next(row for row in cloud.vms.values() if row["name"] == "r-21-VM")["redundantstate"] = role
    assert "not one PRIMARY and one BACKUP" in block_of(playing.plan(cloud), ids["pair"])


def test_of_a_patched_pair_with_two_primaries_a_person_is_warned(cloud):
    ids = small(cloud)
    for row in cloud.vms.values():
        if row.get("guestnetworkid") == ids["pair"]:
            row.update(scriptsversion=NEW, redundantstate="PRIMARY")
    judged = playing.plan(cloud).row(ids["pair"]).judged
    assert judged.standing == "current"
    assert judged.warnings[0].startswith("not one PRIMARY and one BACKUP: ")


def test_a_network_that_is_not_implemented_is_blocked(cloud):
    ids = small(cloud)
    cloud.networks[ids["web"]]["state"] = "Allocated"
    assert "its state is Allocated" in block_of(playing.plan(cloud), ids["web"])


def test_a_vpc_without_tiers_is_blocked_for_its_restart_reaches_no_router(cloud):
    vpc = cloud.vpc("empty", tiers=0)
    cloud.router("r-1-VM", "h1", vpc=vpc)
    assert "without tiers" in block_of(playing.plan(cloud), vpc)


def test_tiers_and_load_balancers_of_a_vpc_are_warned_of(cloud):
    ids = small(cloud)
    tier = next(row["id"] for row in cloud.networks.values() if row.get("vpcid") == ids["shop"])
    cloud.router("b-5-VM", "h4", network=tier, vpc=ids["shop"], role="INTERNAL_LB_VM")
    row = playing.plan(cloud).row(ids["shop"])
    assert [member.name for member in row.unit.reached] == ["r-30-VM"]
    text = "; ".join(row.judged.warnings)
    assert "2 tiers: CloudStack patches each of its routers 2 times in a row" in text
    assert "b-5-VM: CloudStack does not live patch an internal load balancer in a VPC" in text


def test_a_minimum_above_the_template_is_warned_of(cloud):
    ids = small(cloud)
    cloud.minimum = "4.22.0"
    text = "; ".join(playing.plan(cloud).row(ids["web"]).judged.warnings)
    assert "template 4.21.0 is below minreq.sysvmtemplate.version 4.22.0" in text
    assert "the digest after the patch decides" in text
    without = playing.plan(cloud, target=RolloutTarget(RELEASE)).row(ids["web"])
    assert "give --scripts-digest" in "; ".join(without.judged.warnings)


def test_a_restart_that_was_due_before_is_told_of(cloud):
    ids = small(cloud)
    cloud.networks[ids["web"]]["restartrequired"] = True
    made = playing.plan(cloud)
    assert [row.unit.id for row in made.rows if "was due before" in str(row.judged.warnings)] == [ids["web"]]


def test_a_router_without_a_network_is_told_of(cloud):
    small(cloud)
    cloud.router("r-99-VM", "h1")
    cloud.router("r-98-VM", "h1", network="gone", guestnetworkname="gone-net")
    assert dict(playing.plan(cloud).strays) == {
        "r-99-VM": "it has no guest network",
        "r-98-VM": "its network gone-net is not in the list of networks",
    }


def test_only_and_exclude_choose_by_name_field_and_file(cloud, tmp_path):
    ids = small(cloud)

    def chosen(**words):
        return {row.unit.id for row in playing.plan(cloud, choice=Choice(**words)).order}

    assert chosen(only=("web", "kind=VPC")) == {ids["web"], ids["shop"]}
    assert chosen(only=("vm=r-2*",)) == {ids["pair"]}
    assert chosen(only=("project=p1",)) == {ids["pair"]}
    assert chosen(only=("host=host-h3",), exclude=("shop",)) == {ids["lan"]}
    assert chosen(approved=frozenset({ids["web"], "another"})) == {ids["web"]}
    (tmp_path / "units").write_text("# tonight\nweb\n\nkind=shared-network # at last\n")
    assert read_words((f"@{tmp_path}/units",)) == ("web", "kind=shared-network")


def test_an_account_that_may_not_patch_is_told(cloud):
    ids = small(cloud)
    cloud.forbidden = {"patchSystemVm"}
    assert "may not call patchSystemVm" in block_of(playing.plan(cloud), ids["cpvm"])
    cloud.forbidden = {"listRouters"}
    with pytest.raises(UsageError, match="may not call listRouters"):
        playing.plan(cloud)


def test_reads_are_repeated_until_they_are_answered(cloud):
    small(cloud)
    import random

    chance = random.Random(3)
    wire = Wire(cloud, lose(chance, 0.3, only=("listRouters", "listNetworks", "listApis", "listZones")))
    assert len(playing.plan(cloud, wire=wire).order) == 6


@pytest.mark.parametrize("error", [LostAnswer("no answer"), Busy("503")])
def test_patience_with_a_server_ends(cloud, error):
    def trouble(*_):
        raise error

    began = cloud.clock.now()
    with pytest.raises(InfrastructureError, match="no answer within 600 s"):
        survey(Api(Wire(cloud, trouble), cloud.clock))
    assert 400 < (cloud.clock.now() - began).total_seconds() <= 600


@pytest.mark.parametrize(
    "row",
    [{"name": "r-1-VM", "state": "Running"}, {"id": "1", "state": "Running"}, {"id": "1", "name": "r-1-VM"}],
)
def test_a_row_without_what_everything_rests_on_is_no_answer(cloud, row):
    small(cloud)
    cloud._listRouters = lambda _given: {"count": 1, "router": [row]}
    with pytest.raises(InfrastructureError, match=r"a row.* without"):
        playing.plan(cloud)


@pytest.mark.parametrize("answer", [{"count": 3}, {"count": 1, "router": "x"}, {"count": 1, "router": ["x"]}])
def test_a_list_that_is_none_is_no_answer(cloud, answer):
    small(cloud)
    cloud._listRouters = lambda _given: answer
    with pytest.raises(InfrastructureError, match="listRouters"):
        playing.plan(cloud)


def test_a_digest_is_hex_a_file_with_it_or_the_archive(tmp_path):
    import gzip
    import hashlib

    archive = tmp_path / "cloud-scripts.tgz"
    archive.write_bytes(gzip.compress(b"x" * 10000))
    sha, md5 = (hashlib.new(name, archive.read_bytes()).hexdigest() for name in ("sha512", "md5"))
    assert find_target(RELEASE, Wanted(digest=sha.upper())).digests == (sha,)
    assert find_target(RELEASE, Wanted(digest=str(archive))).digests == (sha,)
    assert find_target("4.17.0.0", Wanted(digest=str(archive))).digests == (md5,)
    (tmp_path / "sums").write_text(f"{md5}  cloud-scripts.tgz\n")
    assert find_target("4.17.0.0", Wanted(digest=str(tmp_path / "sums"))).digests == (md5,)
    (tmp_path / "other").write_bytes(b"PK" + b"x" * 5000)
    with pytest.raises(UsageError, match="is no cloud-scripts"):
        find_target(RELEASE, Wanted(digest=str(tmp_path / "other")))


def test_the_three_forms_agree(cloud):
    ids = small(cloud)
    made = playing.plan(cloud)
    said = json.loads(json.dumps(render.document(made)))
    assert [row["place"] for row in said["units"] if row["id"] == ids["lan"]] == [6]
    assert said["summary"]["patch"] == 6
    assert said["templates"] == {"4.21.0": 7}
    page = render.markdown(made)
    assert all(row.unit.name in page for row in made.order)
    assert "nothing has been changed: a plan only reads" in page


def test_a_stored_digest_counts_without_blanks_and_in_any_case(cloud):
    ids = small(cloud)
    for row in cloud.vms.values():
        if row.get("guestnetworkid") == ids["web"]:
            row["scriptsversion"] = f"{NEW.upper()}\n"
    assert playing.plan(cloud).row(ids["web"]).judged.standing == "current"
    assert OLD != NEW


def test_a_list_whose_rows_move_from_page_to_page_is_read_again(cloud):
    small(cloud)
    rows = [{"id": str(number), "name": f"r-{number}-VM", "state": "Running"} for number in range(600)]
    pages = []

    def moving(given):
        pages.append(given["page"])
        first = given["page"] == "1"
        if len(pages) <= 2:  # a row of the second page moved to the first, and is shown twice
            return {"count": 600, "router": rows[:500] if first else [*rows[499:500], *rows[501:]]}
        return {"count": 600, "router": rows[:500] if first else rows[500:]}

    cloud._listRouters = moving
    assert len(Api(Wire(cloud), cloud.clock).rows("listRouters")) == 600
    cloud._listRouters = lambda given: {"count": 600, "router": rows[:500]}
    with pytest.raises(InfrastructureError, match="others not at all"):
        Api(Wire(cloud), cloud.clock).rows("listRouters")
