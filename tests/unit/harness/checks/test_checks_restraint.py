"""The checks blame a patch only for what it did, and one that breaks hides no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.checks import Outcome, checks, failed, judge, record
from harness.record.events import Event
from harness.traffic.measurement import Budget
from tests.unit.harness.checks.hidden import has_file, healthy_recovery, kept_by_operator, then
from tests.unit.harness.checks.mutate import (
    Mutation,
    change_file,
    change_text,
    change_unit,
    listen,
    log_line,
    set_field,
    set_kernel,
    stop_listening,
)
from tests.unit.harness.simulated_patch import (
    CONNTRACK,
    IPTABLES,
    OLD_PAYLOAD,
    STAT,
    File,
    Moment,
    SimulatedPatch,
    Unit,
    failed_world,
    haproxy,
    pem,
    shipped,
    world,
)


def _job_of_cron(made: SimulatedPatch) -> None:
    """Let cron run before, and a job of it at the moment that is looked at."""
    for moment, workers in ((made.before, ()), (made.patched, ((411, 8000),)), (made.after, ())):
        moment.units["cron.service"] = Unit("cron.service", 410, 910, workers)


HARMLESS: dict[str, Mutation] = {
    "a job of cron": _job_of_cron,
    "counters and dates of iptables": change_text(
        "rules.iptables",
        IPTABLES.replace("[5:300]", "[99:9]").replace("00:00:00", "11:11:11").replace("[1:60]", "[7:7]"),
    ),
    "the order in which chains are declared": change_text(
        "rules.iptables",
        IPTABLES.replace(
            ":INPUT DROP [1:60]\n:FORWARD DROP [0:0]\n", ":FORWARD DROP [0:0]\n:INPUT DROP [1:60]\n"
        ),
    ),
    "counters and states of haproxy": change_text(
        "rules.haproxy", haproxy(STAT.replace(",3,", ",9,").replace(",UP,", ",DOWN,"))
    ),
    "a lease that was renewed": change_text("rules.leases", "1769999999 02:00:26:c3:00:02 10.1.1.50 vm1 *\n"),
    "a client id that nobody knew before": change_text(
        "rules.leases", "1769817600 02:00:26:c3:00:02 10.1.1.50 vm1 01:02:00:26:c3:00:02\n"
    ),
    "a connection that was closed in order": change_text(
        "flows", CONNTRACK.replace("431999 ESTABLISHED", "117 TIME_WAIT")
    ),
    "a connection to the VM itself that is gone": change_text("flows", CONNTRACK.splitlines()[0]),
    "a life time that passes": change_text(
        "rules.addresses",
        '[{"addr_info": [{"valid_life_time": 7, "local": "192.0.2.10"}], "ifname": "eth2"}]',
    ),
    "a restart instead of a reload": change_unit(
        "haproxy.service", main=160, start=7000, workers=((161, 7001),)
    ),
    "another port of the kernel's choice": listen(("udp", "0.0.0.0:41234", "dnsmasq", 350)),
    "a reviewed line": log_line(MESSAGE="hrtimer: interrupt took 12345 ns"),
    "cron says what a login says": log_line(
        SYSLOG_IDENTIFIER="CRON",
        PRIORITY="3",
        MESSAGE="pam_env(cron:session): Unable to open env file: /etc/default/locale: No such file or directory",
    ),
    "a line below warning": log_line(PRIORITY="6", MESSAGE="hello"),
    "a new certificate": change_text("identity.truststore", pem("ca 1") + pem("ca 2") + pem("ca 3")),
    "an operator's copy kept beside": kept_by_operator,
    "the recovery unit": healthy_recovery,
    "a clock that is set right": lambda made: (
        change_text("kernel.clock", "2033.5\n", "before")(made),
        change_text("kernel.clock", "2003.5\n")(made),
    ),
    "a lock that is closed to others": then(
        has_file("/run/cloud/rules.lock", File(mode=0o644)), change_file("/run/cloud/rules.lock", mode=0o600)
    ),
    "a file with which Python tries to write": change_file("/tmp/m_5prwxz", content="blat", mode=0o600),
    "what an earlier boot had to do": then(
        lambda made: made.before.units.update(
            {"first.service": Unit("first.service", 0, 900, (), "active", "exited")}
        ),
        lambda made: made.before.sysctls.update({"kernel/random/boot_id": "one"}),
        set_kernel(kernel__random__boot_id="another"),
    ),
    "a big agent that was refused": change_file(
        "/var/lib/cloud-livepatch/landed/agent.zip", size=150_000_000
    ),
    "a log that grows": change_file("/var/log/x", size=30_000_000),
    "the password server": lambda made: made.after.units.update(
        {"cloud-password-server@10.1.1.1.service": Unit("cloud-password-server@10.1.1.1.service", 700, 8000)}
    ),
    "a login": change_unit("user@0.service", main=800, start=8000),
    "trouble on purpose": lambda made: (
        log_line(SYSLOG_IDENTIFIER="systemd", MESSAGE="haproxy.service: Failed with result")(made),
        set_field(trouble=(r"haproxy\.service: Failed",))(made),
    ),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_a_harmless_change_is_not_blamed(change: str) -> None:
    made = world()
    HARMLESS[change](made)
    assert made.found() == {}


def _two_patches(first: str, between: str, last: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return what is found of two patches, the first of which has to fail, of a rule set before, between and after."""
    one, two = failed_world(), world()
    moments = (one.before, one.patched, one.after, two.before, two.patched, two.after)
    texts = (first, between, between, between, between, last)
    for moment, text in zip(moments, texts, strict=True):
        moment.texts["rules.metadata-access"] = text
    two.fields["earlier"] = one.case()
    return one.found(), two.found()


def test_rules_that_come_back_are_blamed_on_nobody() -> None:
    lost, back = _two_patches("deny a\ndeny b\n", "", "deny a\ndeny b\n")
    assert "rules.metadata-access" in lost
    assert back == {}


@pytest.mark.parametrize(
    ("between", "last"),
    [
        pytest.param("", "deny a\n", id="only a part comes back"),
        pytest.param("", "deny a\ndeny b\ndeny c\n", id="more comes than was lost"),
        pytest.param("deny a\ndeny b\n", "deny a\n", id="they are lost by the second patch"),
    ],
)
def test_rules_that_differ_from_those_before_both_patches_are_found(between: str, last: str) -> None:
    _, found = _two_patches("deny a\ndeny b\n", between, last)
    assert "rules.metadata-access" in found


def test_a_unit_that_had_failed_before_is_not_blamed_on_the_patch() -> None:
    made = world()
    for moment in (made.before, made.patched, made.after):
        moment.units["old.service"] = Unit("old.service", 0, 0, active="failed", sub="failed")
    assert made.found() == {}
    outcome = next(row for row in judge(made.case()) if row.name == "services.none-failed")
    assert (outcome.verdict, outcome.reason) == ("skipped", "failed before the patch already: old.service")


def test_a_service_that_was_dead_before_need_not_be_renewed() -> None:
    made = world()
    for moment in (made.before, made.patched, made.after):
        moment.units["apache2.service"] = Unit("apache2.service", 0, 0, active="inactive", sub="dead")
        moment.listeners[:] = [row for row in moment.listeners if row[2] != "apache2"]
    assert made.found() == {}


@pytest.mark.parametrize("absent", [frozenset(), frozenset({"haproxy"})])
def test_a_service_that_cannot_run_is_not_blamed_for_coming_and_going(absent: frozenset[str]) -> None:
    """An agent without its jars is up for a moment, and then tried again and again."""
    made = world()
    made.fields |= {"absent": absent}
    made.before.units["haproxy.service"] = Unit("haproxy.service", 100, 1000, restarts=7)
    change_unit("haproxy.service", active="failed", sub="failed", main=0, workers=(), restarts=9)(made)
    log_line(SYSLOG_IDENTIFIER="systemd", MESSAGE="haproxy.service: Failed with result 'exit-code'.")(made)
    blamed = {name for name in made.found() if name.startswith(("services.", "journal."))}
    assert blamed == (
        set()
        if absent
        else {"services.up", "services.renewed", "services.stable", "services.none-failed", "journal.quiet"}
    )


def test_an_alias_in_the_list_means_its_unit() -> None:
    made = world()
    for moment, pid in ((made.before, 600), (made.patched, 600), (made.after, 600)):
        moment.texts["services.enabled"] = "haproxy apache2 dnsmasq portmap\n"
        moment.units["rpcbind.service"] = Unit("rpcbind.service", pid, 1000)
    for moment in (made.before, made.patched, made.after):
        shown = moment._all_texts()["services.units"]
        moment.texts["services.units"] = str(shown).replace(
            "Names=rpcbind.service", "Names=rpcbind.service portmap.service"
        )
    assert made.found()["services.renewed"] == "portmap still runs on its old process 600"


@pytest.mark.parametrize(
    ("changed", "policy", "found"),
    [
        ("/opt/cloud/bin/vr_cfg.sh", "changed", None),
        ("/etc/dnsmasq.d/cloud.conf", "changed", "dnsmasq still runs on its old process 300"),
        ("/opt/cloud/bin/vr_cfg.sh", "graceful", "dnsmasq still runs on its old process 300"),
    ],
)
def test_a_service_may_stay_where_the_script_renews_only_what_reads_a_change(
    changed: str, policy: str, found: str | None
) -> None:
    made = world()
    made.fields |= {
        "policy": policy,
        "old": OLD_PAYLOAD,
        "new": OLD_PAYLOAD | shipped((changed, "new", 0o644)),
    }
    old = made.before.units["dnsmasq.service"]
    for moment in (made.patched, made.after):
        moment.units["dnsmasq.service"] = old
    case = made.case()
    (outcome,) = judge(case, only=["services.renewed"])
    assert (outcome.reason if outcome.verdict == "failed" else None) == found


def test_only_the_named_checks_are_made() -> None:
    names = {outcome.name for outcome in judge(world().case(), only=["sshd", "files.installed"])}
    assert names == {"sshd.control-only", "sshd.host-keys", "files.installed"}


def test_a_check_that_breaks_is_an_error_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world()
    change_unit("haproxy.service", workers=((101, 1001),))(made)
    case = made.case()
    object.__setattr__(case, "budgets", (object(),))
    outcomes = {outcome.name: outcome for outcome in judge(case)}
    assert outcomes["traffic.streams"].verdict == "error"
    assert "the check itself broke: AttributeError" in outcomes["traffic.streams"].reason
    assert outcomes["services.renewed"].verdict == "failed"
    assert {"traffic.streams", "services.renewed"} <= {
        outcome.name for outcome in failed(list(outcomes.values()))
    }


def test_outcomes_become_events() -> None:
    class Log:
        def __init__(self) -> None:
            self.kept: list[Event] = []

        def emit(self, kind: str, **fields: object) -> Event:
            self.kept.append(Event(0.0, "", kind, fields))
            return self.kept[-1]

    made, log = world(), Log()
    stop_listening("sshd")(made)
    bad = record(log, "router-S24", judge(made.case()))
    assert {outcome.name for outcome in bad} == {"sshd.control-only", "ports.open"}
    event = next(event for event in log.kept if event["name"] == "sshd.control-only")
    assert (event["scenario"], event["verdict"]) == ("router-S24", "failed")
    assert len(log.kept) == len([known for known in checks() if "patched" in known.applies])


def test_checks_are_named_by_subject_and_explained_in_one_line() -> None:
    assert len({known.name for known in checks()}) == len(checks()) > 40
    for known in checks():
        assert known.name.count(".") == 1
        assert 20 < len(known.why) < 140
        assert known.judge.__doc__


def test_a_list_that_was_missing_before_is_not_blamed_on_a_refused_patch() -> None:
    made = failed_world()
    made.before.texts["services.enabled"] = made.patched.texts["services.enabled"] = None
    assert "services.listed" not in made.found()
    made = failed_world()
    made.patched.texts["services.enabled"] = None
    assert "services.listed" in made.found()


def test_trouble_on_purpose_is_known_in_whatever_case() -> None:
    made = world()
    log_line(MESSAGE="Reload failed for HAProxy Load Balancer.")(made)
    assert "journal.quiet" in made.found()
    case = replace(made.case(), trouble=("haproxy",))
    assert {row.name: row.verdict for row in judge(case)}["journal.quiet"] == "passed"


# Checks that are about silence: where nothing was said, nothing was wrong.
ABOUT_SILENCE = {"console.quiet"}
SILENT = {
    "scripts.template": None, "journal.cursor": "", "kernel.modules": None, "kernel.swaps": None, "kernel.clock": None,
    "sockets.unix": None, "state.flags": None, "services.manager": "",
}  # fmt: skip


def nothing_to_look_at(made: SimulatedPatch) -> SimulatedPatch:
    """Return the world of a VM that answers every question of an observation with nothing."""
    for name in ("before", "patched", "after"):
        setattr(made, name, Moment(signature="", kept="", texts=dict(SILENT), boot_code={}))
    made.fields |= {"old": {}, "new": {}, "live_paths": (), "control_address": "", "signature": ""}
    made.fields |= {"answer": None, "recorded": None}
    return made


@pytest.mark.parametrize("make", [world, failed_world])
def test_a_check_that_has_nothing_to_look_at_does_not_pass(make: Callable[[], SimulatedPatch]) -> None:
    outcomes = judge(nothing_to_look_at(make()).case())
    assert {row.name for row in outcomes if row.verdict == "passed"} == ABOUT_SILENCE
    assert all(row.reason for row in outcomes if row.verdict != "passed")


def outcome_of_streams(*budgets: Budget) -> Outcome:
    return {row.name: row for row in judge(replace(world().case(), budgets=budgets))}["traffic.streams"]


def test_streams_are_judged_where_a_probe_had_one() -> None:
    request, stream = Budget("http", 500, 0.0, 500.0), Budget("stream", 500, 0.0, 500.0, streams=1)
    assert outcome_of_streams(request, stream).verdict == "passed"
    left_out = outcome_of_streams(request)
    assert (left_out.verdict, left_out.reason) == ("skipped", "no probe opened a stream")


REQUESTS, STREAMS = "traffic.within-budget", "traffic.streams"


def gap(longest: float, sure: float) -> Budget:
    return Budget("http", 500, longest, 8000.0, sure_gap_ms=sure)


def broken(longest: float, sure: float) -> Budget:
    return Budget("s", 5, longest, 8000.0, broken_streams=1, streams=2, sure_gap_ms=sure)


@pytest.mark.parametrize(
    ("check", "row", "verdict", "words"),
    [
        (REQUESTS, gap(9000.0, 8100.0), "failed", "9000 ms, the budget is 8000 ms"),
        (REQUESTS, gap(9000.0, 3000.0), "error", "stood still for 6000 ms"),
        (REQUESTS, gap(7000.0, 0.0), "passed", ""),
        (REQUESTS, replace(gap(9000.0, 9000.0), stretch=3.9), "failed", "all took 3.9 times as long"),
        (REQUESTS, replace(gap(9000.0, 9000.0), stretch=4.0), "error", "all took 4.0 times as long"),
        (REQUESTS, replace(gap(17000.0, 17000.0), stretch=4.0), "failed", "all took 4.0 times as long"),
        (STREAMS, broken(900.0, 9.0), "failed", "1 broken"),
        (STREAMS, broken(7000.0, 9.0), "error", "stood still for 6991 ms"),
    ],
)
def test_what_the_host_may_have_done_itself_is_nobodys_failure_and_no_pass(
    check: str, row: Budget, verdict: str, words: str
) -> None:
    (outcome,) = [each for each in judge(replace(world().case(), budgets=(row,))) if each.name == check]
    assert outcome.verdict == verdict
    assert words in outcome.reason


@pytest.mark.parametrize(
    ("clock", "row", "verdict"),
    [
        ("1960.5\n", gap(30000.0, 3000.0), "error"),
        ("1960.5\n", gap(3000.0, 2900.0), "failed"),
        ("2060.5\n", gap(30000.0, 3000.0), "failed"),
    ],
)
def test_a_clock_that_fell_behind_while_the_host_stood_still_is_nobodys_failure(
    clock: str, row: Budget, verdict: str
) -> None:
    made = world()
    change_text("kernel.clock", clock)(made)
    (outcome,) = judge(replace(made.case(), budgets=(row,)), only=["kernel.clock"])
    assert (outcome.verdict, "the clock was set" in outcome.reason) == (verdict, True)


def test_a_healthy_patch_leaves_few_checks_out() -> None:
    skipped = {row.name for row in judge(world().case()) if row.verdict == "skipped"}
    absent = {
        "legacy",
        "shaping",
        "xfrm",
        "neighbours",
        "ip6tables",
        "ipset",
        "nft",
        "policy",
        "policy6",
        "dns",
        "dnsmasq",
    }
    absent |= {"metadata-access", "vpn", "remembered"}
    others = {"identity.agent-connected"} | {
        f"traffic.{name}" for name in ("within-budget", "few-lost", "streams", "probed")
    }
    assert skipped == {f"rules.{name}" for name in absent} | others


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("imported into", "imported into", False),
        ("the old release's", "the old release's", True),
        ("imported into", "damaged", True),
    ],
)
def test_a_keystore_into_which_a_vm_imported_stays_and_one_of_the_release_does_not(before, after, told):
    path = "/usr/local/cloud/systemvm/certs/realhostip.keystore"
    made = world()
    made.fields["old"] = {**OLD_PAYLOAD, **shipped((path, "the old release's", 0o644))}
    made.fields["new"] = {**made.fields["new"], **shipped((path, "the new release's", 0o644))}
    for moment, content in ((made.before, before), (made.patched, after), (made.after, after)):
        moment.files[path] = File(content)
    (found,) = judge(made.case(), only=["files.installed"])
    assert (found.verdict == "failed") == told, found.reason


@pytest.mark.parametrize(("legible", "verdict"), [(True, "skipped"), (False, "failed")])
def test_a_further_line_is_no_fault_where_the_agent_of_the_script_reads_the_version(
    legible: bool, verdict: str
) -> None:
    case = world().case()
    assert case.answer is not None
    said = replace(case.answer, fault="a line on standard output that is no version line", legible=legible)
    (outcome,) = [row for row in judge(replace(case, answer=said)) if row.name == "answer.protocol"]
    assert outcome.verdict == verdict
    assert "no version line" in outcome.reason
